//! The API's description, OpenAPI 3.1, drawn from the routes themselves: what a handler takes and answers says
//! most of it, [`told`] the rest. What is added by `api_route` is in it.

mod inputs;
mod outputs;

use std::sync::{Arc, OnceLock};

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use aide::openapi::{Info, OpenApi, Operation, PathItem, ReferenceOr, StatusCode};
use aide::swagger::Swagger;
use aide::transform::TransformOperation;
use axum::Router;
use axum::response::Html;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub use inputs::parameter;
pub use outputs::{Written, answers};

const SUMMARY: &str = "\
The backend of a shop that rents things out or sells them for delivery.

Every write answers with `Rentstream-Position` and takes an `Idempotency-Key`: the same request again gets the \
first answer again. Every read takes `?after=POSITION` and waits until its view has seen that. Errors are \
`application/problem+json` with a stable `type` and, where one is to blame, the `field`.

Who calls is said by a bearer token (a JWT) with one of the roles `customer` (the own records; `sub` is the \
customer id), `manager` (the shop), `courier` (deliveries) and `operator` (views). Each route says for whom it is.";

/// Describes routes that another process serves, for [`publish`].
pub fn describe<S: Clone + Send + Sync + 'static>(routes: ApiRouter<S>) -> OpenApi {
    let mut api = OpenApi::default();
    let _ = routes.finish_api(&mut api);
    api
}

/// Adds `/openapi.json`, which describes these routes, and `/docs`, a page to read and try them. Where the whole is
/// served by several processes behind one entrance, each describes what is `beside` it too.
pub fn publish(routes: ApiRouter, beside: Option<OpenApi>) -> Router {
    let written: Arc<OnceLock<Written>> = Arc::default();
    let served = written.clone();
    let description = async move || served.get().cloned().unwrap_or_default();
    // The page brings its script and style along: it needs nothing from outside.
    let page: &'static str =
        Box::leak(Swagger::new("/openapi.json").with_title("Rentstream").html().into_boxed_str());
    let mut api = OpenApi {
        info: Info {
            title: "Rentstream".to_owned(),
            description: Some(SUMMARY.to_owned()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Info::default()
        },
        ..OpenApi::default()
    };
    let router = routes
        .api_route(
            "/openapi.json",
            get_with(description, |op| {
                told("This description", "anybody", &[])(text(op, "application/json", "OpenAPI 3.1"))
            }),
        )
        .api_route("/docs", get_with(async move || Html(page), told("A page to read it", "anybody", &[])))
        .finish_api(&mut api);
    if let Some(beside) = beside {
        add(&mut api, beside);
    }
    complete(&mut api);
    let _ = written.set(Written::text("application/json", serde_json::to_vec(&api).unwrap_or_default()));
    router
}

/// Says of a route what its handler's types can't: what it does, for whom it is, and what it refuses.
pub fn told<'a>(
    summary: &'a str,
    who: &'a str,
    refusals: &'a [(u16, &'a str)],
) -> impl for<'t> FnOnce(TransformOperation<'t>) -> TransformOperation<'t> + 'a {
    move |mut operation| {
        for (status, why) in refusals {
            refuses(operation.inner_mut(), *status, why);
        }
        operation.summary(summary).description(&format!("For: {who}."))
    }
}

/// Another answer than the usual one, when it's done too.
pub fn also<'t, T: JsonSchema>(
    mut operation: TransformOperation<'t>,
    status: u16,
    meaning: &str,
) -> TransformOperation<'t> {
    aide::generate::in_context(|ctx| answers::<T>(ctx, operation.inner_mut(), status, meaning));
    operation
}

/// An answer that isn't JSON with a position.
pub fn text<'t>(
    mut operation: TransformOperation<'t>,
    kind: &'static str,
    meaning: &str,
) -> TransformOperation<'t> {
    let kind = kind.split(';').next().unwrap_or_default();
    let answer = part(json!({ "description": meaning, "content": { kind: {} } }));
    let responses = &mut operation.inner_mut().responses.get_or_insert_default().responses;
    responses.extend(answer.map(|answer| (StatusCode::Code(200), ReferenceOr::Item(answer))));
    operation
}

/// Notes a problem that an operation may answer with. One status can have several reasons.
pub fn refuses(operation: &mut Operation, status: u16, why: &str) {
    let responses = &mut operation.responses.get_or_insert_default().responses;
    match responses.get_mut(&StatusCode::Code(status)) {
        Some(ReferenceOr::Item(response)) if response.description.contains(why) => {}
        Some(ReferenceOr::Item(response)) => {
            response.description.push_str("; ");
            response.description.push_str(why);
        }
        _ => {
            if let Some(response) = outputs::problem(status, why) {
                responses.insert(StatusCode::Code(status), ReferenceOr::Item(response));
            }
        }
    }
}

/// One path may be a write's and a read's.
fn add(api: &mut OpenApi, beside: OpenApi) {
    let paths = &mut api.paths.get_or_insert_default().paths;
    for (path, item) in beside.paths.into_iter().flat_map(|beside| beside.paths) {
        match (paths.get_mut(&path), item) {
            (Some(ReferenceOr::Item(here)), ReferenceOr::Item(there)) => {
                let PathItem { get, post, put, patch, delete, .. } = there;
                for (here, there) in [
                    (&mut here.get, get),
                    (&mut here.post, post),
                    (&mut here.put, put),
                    (&mut here.patch, patch),
                    (&mut here.delete, delete),
                ] {
                    *here = here.take().or(there);
                }
            }
            (_, item) => drop(paths.insert(path, item)),
        }
    }
    let schemas = &mut api.components.get_or_insert_default().schemas;
    schemas.extend(beside.components.into_iter().flat_map(|beside| beside.schemas));
}

/// What is the same for all routes, or follows from their paths.
fn complete(api: &mut OpenApi) {
    let components = api.components.get_or_insert_default();
    components.schemas.extend(outputs::problem_schema());
    components.security_schemes = part(json!({ "bearer": {
        "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
        "description": "`rentstream token --role ROLE` mints one to try things out."
    } }))
    .unwrap_or_default();
    for (path, item) in api.paths.iter_mut().flat_map(|paths| &mut paths.paths) {
        let ReferenceOr::Item(item) = item else { continue };
        let place = path.trim_start_matches("/v1");
        let methods = [
            ("get", &mut item.get),
            ("post", &mut item.post),
            ("put", &mut item.put),
            ("patch", &mut item.patch),
            ("delete", &mut item.delete),
        ];
        for (method, operation) in methods {
            let Some(operation) = operation else { continue };
            let words = place.split(['/', '{', '}', '-', '.']).filter(|word| !word.is_empty());
            if place != path {
                refuses(operation, 429, "rate-limited");
                refuses(operation, 503, "overloaded");
            }
            operation.operation_id = Some(std::iter::once(method).chain(words).collect::<Vec<_>>().join("_"));
            operation.tags = place.split(['/', '.']).nth(1).map(str::to_owned).into_iter().collect();
            for name in path.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
                inputs::in_path(operation, name, json!({ "type": "string" }));
            }
        }
    }
}

/// A part of the description, as one would write it down.
fn part<T: DeserializeOwned>(written: Value) -> Option<T> {
    serde_json::from_value(written)
        .inspect_err(|error| tracing::error!(%error, "A part of /openapi.json"))
        .ok()
}
