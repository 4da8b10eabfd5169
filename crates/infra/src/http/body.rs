//! Reading what a client sent, with a problem that names the field to blame.

mod shape;

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::Problem;

/// A JSON body. Keeps the bytes, by which a repeat of the request is told from another one.
pub struct Body<T> {
    /// What it says.
    pub value: T,
    /// As it came.
    pub bytes: Bytes,
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let json = request
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().to_ascii_lowercase().starts_with(b"application/json"));
        if !json {
            let detail = "the body must be JSON, sent as Content-Type: application/json";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-json", detail));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|error| {
            let status = error.status();
            Problem::new(
                status,
                if status == StatusCode::PAYLOAD_TOO_LARGE { "too-large" } else { "bad-body" },
                error.body_text(),
            )
        })?;
        Ok(Self { value: read(&bytes)?, bytes })
    }
}

/// A JSON body that may be left out: nothing at all counts as `{}`.
pub struct MaybeBody<T>(pub Body<T>);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for MaybeBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if request.headers().contains_key(header::CONTENT_TYPE) {
            return Body::from_request(request, state).await.map(Self);
        }
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|error| Problem::new(error.status(), "bad-body", error.body_text()))?;
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        Ok(Self(Body { value: read(text)?, bytes: bytes.clone() }))
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // serde would take the fields in their order too.
    if bytes.trim_ascii_start().starts_with(b"[") {
        let detail = "the body must be an object, not an array";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-field", detail));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value: T = serde_path_to_error::deserialize(&mut json).map_err(|error| blame(&error))?;
    json.end().map_err(|error| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "malformed-json",
            format!("the body is not one JSON value: {error}"),
        )
    })?;
    shape::check::<T>(bytes).map_err(|error| blame(&error))?;
    Ok(value)
}

fn blame(error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let inner = error.inner();
    if inner.is_syntax() || inner.is_eof() {
        let detail = format!("the body is not JSON: {inner}");
        return Problem::new(StatusCode::BAD_REQUEST, "malformed-json", detail);
    }
    let message = inner.to_string();
    let said = message.split(" at line ").next().unwrap_or_default().to_owned();
    let path = error.path().to_string();
    // serde names an unknown, missing or repeated field in its words only, between backticks.
    let named = ["unknown field `", "missing field `", "duplicate field `"]
        .iter()
        .find_map(|words| said.split_once(words))
        .and_then(|(_, rest)| rest.split_once('`'))
        .map(|(name, _)| name.to_owned());
    let field = match (named, path.as_str()) {
        (Some(name), ".") => name,
        (Some(name), path) if path == name || path.ends_with(&format!(".{name}")) => path.to_owned(),
        (Some(name), path) => format!("{path}.{name}"),
        (None, path) => path.to_owned(),
    };
    Problem::invalid(&field, said)
}

/// A query string.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        // Postgres can't store a NUL, so nothing can be found by one.
        if let Some(name) =
            parts.uri.query().and_then(|query| query.split('&').find(|pair| pair.contains("%00")))
        {
            let field = name.split('=').next().unwrap_or_default();
            return Err(Problem::invalid(field, "it must not contain control characters"));
        }
        let Query(value) = Query::<T>::from_request_parts(parts, state).await.map_err(|error| {
            let text = error.body_text();
            let said = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text).to_owned();
            // «limit: invalid digit found in string», or an unknown or missing field between backticks.
            let named =
                ["unknown field `", "missing field `"].iter().find_map(|words| said.strip_prefix(words));
            let field = named
                .and_then(|rest| rest.split_once('`'))
                .or_else(|| said.split_once(':'))
                .map(|(name, _)| name.trim().to_owned());
            let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-field", said);
            match field {
                Some(field) => problem.with("field", json!(field)),
                None => problem,
            }
        })?;
        Ok(Self(value))
    }
}

/// The id in a path. What isn't a UUID is the id of nothing.
pub struct Id<T>(pub T);

impl<T: From<uuid::Uuid>, S: Send + Sync> FromRequestParts<S> for Id<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let unknown =
            || Problem::unknown("unknown-id", "the id in the path is not a UUID").with("field", json!("id"));
        let Path(text) = Path::<String>::from_request_parts(parts, state).await.map_err(|_| unknown())?;
        text.parse::<uuid::Uuid>().map(|id| Self(T::from(id))).map_err(|_| unknown())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "read, not used")]
    struct Outer {
        units: u32,
        inner: Option<Inner>,
        #[serde(default)]
        many: Vec<Inner>,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "read, not used")]
    struct Inner {
        token: String,
    }

    fn blamed(body: &str) -> String {
        let problem = read::<Outer>(body.as_bytes()).unwrap_err();
        problem
            .more
            .get("field")
            .map_or(problem.kind.to_owned(), |field| field.as_str().unwrap_or_default().to_owned())
    }

    #[test]
    fn the_field_to_blame_is_named() {
        assert_eq!(blamed(r#"{"units": -1}"#), "units");
        assert_eq!(blamed(r#"{"units": 99999999999999999999}"#), "units");
        assert_eq!(blamed(r#"{"units": 1, "price": 1}"#), "price");
        assert_eq!(blamed("{}"), "units");
        assert_eq!(blamed(r#"{"units": 1, "inner": {}}"#), "inner.token");
        assert_eq!(blamed(r#"{"units": 1, "inner": {"token": 1}}"#), "inner.token");
        assert_eq!(blamed(r#"{"units": 1, "inner": {"token": "", "x": 1}}"#), "inner.x");
        assert_eq!(blamed(r#"{"units": 1"#), "malformed-json");
        assert_eq!(blamed(r#"{"units": 1} {}"#), "malformed-json");
        assert_eq!(blamed("[1]"), "invalid-field");
    }

    #[test]
    fn an_array_is_not_taken_for_an_object() {
        assert_eq!(blamed(r#"{"units": 1, "inner": ["token"]}"#), "inner");
        assert_eq!(blamed(r#"{"units": 1, "many": [{"token": "a"}, ["b"]]}"#), "many[1]");
        let said = read::<Outer>(br#"{"units": 1, "inner": ["token"]}"#).unwrap_err().detail;
        assert_eq!(said, "invalid type: sequence, expected an object");
        let good = br#"{"units": 1, "inner": {"token": "a"}, "many": [{"token": "b"}]}"#;
        assert_eq!(read::<Outer>(good).unwrap().many.len(), 1);
        assert_eq!(blamed(r#"{"units": 1, "units": 2}"#), "units");
    }
}
