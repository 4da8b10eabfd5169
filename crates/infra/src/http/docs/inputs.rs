//! What the extractors say of a request.

use aide::OperationInput;
use aide::generate::GenContext;
use aide::openapi::{Operation, Parameter, ReferenceOr};
use schemars::JsonSchema;
use serde_json::{Value, json};

use super::{part, refuses};
use crate::http::auth::Caller;
use crate::http::body::{Body, Id, MaybeBody, Params};

impl OperationInput for Caller {
    fn operation_input(_: &mut GenContext, operation: &mut Operation) {
        operation.security = vec![[("bearer".to_owned(), vec![])].into()];
        refuses(operation, 401, "unauthorized");
        refuses(operation, 403, "forbidden");
    }
}

impl<T: JsonSchema> OperationInput for Body<T> {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        body::<T>(ctx, operation, true);
        refuses(operation, 415, "not-json");
    }
}

impl<T: JsonSchema> OperationInput for MaybeBody<T> {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        body::<T>(ctx, operation, false);
        refuses(operation, 415, "not-json");
    }
}

fn body<T: JsonSchema>(ctx: &mut GenContext, operation: &mut Operation, required: bool) {
    let schema = ctx.schema.subschema_for::<T>();
    operation.request_body =
        part(json!({ "required": required, "content": { "application/json": { "schema": schema } } }))
            .map(ReferenceOr::Item);
    refuses(operation, 400, "malformed-json");
    refuses(operation, 413, "too-large");
    refuses(operation, 422, "invalid-field");
}

impl<T> OperationInput for Id<T> {
    fn operation_input(_: &mut GenContext, operation: &mut Operation) {
        in_path(operation, "id", json!({ "type": "string", "format": "uuid" }));
        refuses(operation, 404, "unknown-id");
    }
}

impl<T: JsonSchema> OperationInput for Params<T> {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        let asked = T::json_schema(&mut ctx.schema);
        let required = asked.get("required").cloned().unwrap_or_default();
        for (name, schema) in asked.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let (schema, description) = shared(name).unwrap_or_else(|| {
                let description = schema["description"].as_str().map(str::to_owned);
                (never_null(schema.clone()), description)
            });
            let required = required.as_array().is_some_and(|names| names.contains(&json!(name)));
            parameter(operation, "query", name, required, description.as_deref(), schema);
        }
        refuses(operation, 422, "invalid-field");
    }
}

/// Parameters that mean the same wherever they stand.
fn shared(name: &str) -> Option<(Value, Option<String>)> {
    let (schema, description) = match name {
        "after" => (
            json!({ "type": "integer", "format": "int64", "minimum": 0, "maximum": i64::MAX }),
            "A position: the answer comes once the view has seen it, 2 s at most.",
        ),
        "limit" => {
            (json!({ "type": "integer", "minimum": 1, "maximum": 100, "default": 20 }), "Rows of a page.")
        }
        "cursor" => (
            json!({ "type": "string", "minLength": 1 }),
            "The `next` of the page before; nothing else is taken.",
        ),
        _ => return None,
    };
    Some((schema, Some(description.to_owned())))
}

/// A parameter can be left out, it can't be null.
fn never_null(mut schema: Value) -> Value {
    if let Some(kinds) = schema["type"].as_array() {
        schema["type"] = kinds.iter().find(|kind| *kind != "null").cloned().unwrap_or_default();
    }
    if let Some(choices) = schema["anyOf"].as_array()
        && let Some(choice) = choices.iter().find(|choice| choice["type"] != "null")
    {
        schema = choice.clone();
    }
    if let Some(members) = schema.as_object_mut() {
        members.remove("default");
        members.remove("description");
        // A NUL is refused wherever it stands.
        if members.get("type").is_some_and(|kind| kind == "string")
            && !["enum", "format", "pattern"].iter().any(|bound| members.contains_key(*bound))
        {
            members.insert("pattern".to_owned(), json!("^[^\\u0000]*$"));
        }
    }
    schema
}

/// A parameter in the path, unless it's described already.
pub(super) fn in_path(operation: &mut Operation, name: &str, schema: Value) {
    let known = operation.parameters.iter().filter_map(ReferenceOr::as_item);
    if !known.map(Parameter::parameter_data_ref).any(|data| data.name == name) {
        parameter(operation, "path", name, true, None, schema);
    }
}

/// Adds a parameter.
pub fn parameter(
    operation: &mut Operation,
    place: &str,
    name: &str,
    required: bool,
    description: Option<&str>,
    schema: Value,
) {
    operation.parameters.extend(
        part(json!({
            "in": place, "name": name, "required": required, "description": description, "schema": schema,
        }))
        .map(ReferenceOr::Item),
    );
}
