//! What the answers say of themselves.

use std::error::Error;

use aide::OperationOutput;
use aide::generate::GenContext;
use aide::openapi::{Operation, ReferenceOr, Response as Described, SchemaObject, StatusCode};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

use super::{part, refuses};
use crate::http::{Positioned, Problem};

impl OperationOutput for Problem {
    type Inner = Self;

    fn inferred_responses(_: &mut GenContext, operation: &mut Operation) -> Vec<(Option<u16>, Described)> {
        refuses(operation, 500, "internal");
        refuses(operation, 503, "come back soon");
        vec![]
    }
}

impl<T: JsonSchema> OperationOutput for Positioned<T> {
    type Inner = T;

    fn inferred_responses(ctx: &mut GenContext, operation: &mut Operation) -> Vec<(Option<u16>, Described)> {
        answers::<T>(ctx, operation, 200, "The view has seen `Rentstream-Position`.");
        refuses(operation, 504, "view-behind");
        vec![]
    }
}

/// Notes what an operation answers when it's done.
pub fn answers<T: JsonSchema>(ctx: &mut GenContext, operation: &mut Operation, status: u16, meaning: &str) {
    let schema = shown::<T>(ctx);
    let mut headers = json!({ "Rentstream-Position": {
        "required": true,
        "description": "The position in the log at which this is true.",
        "schema": { "type": "integer", "format": "int64", "minimum": 0 },
    } });
    if status == 202 {
        headers["Retry-After"] = retry_after();
    }
    let response = part(json!({
        "description": meaning,
        "headers": headers,
        "content": { "application/json": { "schema": schema } },
    }));
    let responses = &mut operation.responses.get_or_insert_default().responses;
    responses.extend(response.map(|response| (StatusCode::Code(status), ReferenceOr::Item(response))));
}

fn retry_after() -> Value {
    json!({
        "description": "Seconds after which it's worth asking again.",
        "schema": { "type": "integer", "minimum": 0 },
    })
}

/// The schema of what is answered: as it's written, not as it could be read.
fn shown<T: JsonSchema>(ctx: &mut GenContext) -> Schema {
    let settings = SchemaSettings::draft07().with(|settings| {
        settings.definitions_path = "#/components/schemas/".into();
    });
    let mut generator = settings.for_serialize().into_generator();
    let schema = generator.subschema_for::<T>();
    for (name, definition) in generator.take_definitions(true) {
        let known = ctx.schema.definitions_mut().entry(name.clone()).or_insert_with(|| definition.clone());
        if *known != definition {
            let twice: Box<dyn Error + Send + Sync> = format!("two schemas are named {name}").into();
            ctx.error(aide::Error::Other(twice));
        }
    }
    schema
}

/// A problem as an answer.
pub(super) fn problem(status: u16, why: &str) -> Option<Described> {
    let mut headers = json!({});
    if status == 503 || status == 429 {
        headers["Retry-After"] = retry_after();
    }
    if status == 401 {
        headers["WWW-Authenticate"] = json!({ "required": true, "schema": { "type": "string" } });
    }
    part(json!({
        "description": why,
        "headers": headers,
        "content": {
            "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } },
        },
    }))
}

/// RFC 9457, and what we add.
pub(super) fn problem_schema() -> Option<(String, SchemaObject)> {
    let schema: Schema = part(json!({
        "type": "object",
        "description": "What went wrong (RFC 9457).",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": { "type": "string", "description": "A stable word that a program can tell the problem by." },
            "title": { "type": "string" },
            "status": { "type": "integer", "minimum": 400, "maximum": 599 },
            "detail": { "type": "string", "description": "A sentence for a person." },
            "field": { "type": "string", "description": "The field or parameter to blame." },
        },
    }))?;
    Some(("Problem".to_owned(), SchemaObject { json_schema: schema, external_docs: None, example: None }))
}

/// A text that's answered as it is.
#[derive(Clone, Debug, Default)]
pub struct Written {
    kind: &'static str,
    text: Bytes,
}

impl Written {
    /// A text of a media type.
    pub fn text(kind: &'static str, text: impl Into<Bytes>) -> Self {
        Self { kind, text: text.into() }
    }
}

impl IntoResponse for Written {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, self.kind)], self.text).into_response()
    }
}

impl OperationOutput for Written {
    type Inner = Value;
}
