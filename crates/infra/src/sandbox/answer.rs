//! What the sandbox answers: JSON, and errors of Stripe's form.

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A status and a body, as they are kept under an idempotency key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Answer {
    /// An HTTP status.
    pub(super) status: u16,
    /// JSON.
    pub(super) body: String,
}

impl Answer {
    pub(super) fn ok(body: &Value) -> Answer {
        Answer { status: 200, body: body.to_string() }
    }

    pub(super) fn error(status: u16, error: &Value) -> Answer {
        Answer { status, body: json!({ "error": error }).to_string() }
    }

    /// The request itself is wrong.
    pub(super) fn invalid(code: &str, param: &str, message: &str) -> Answer {
        let error = json!({
            "type": "invalid_request_error", "code": code, "param": param, "message": message,
        });
        Answer::error(400, &error)
    }

    pub(super) fn missing(status: u16, kind: &str, param: &str, id: &str) -> Answer {
        let message = format!("No such {kind}: '{}'", id.chars().take(100).collect::<String>());
        let error = json!({
            "type": "invalid_request_error", "code": "resource_missing", "param": param, "message": message,
        });
        Answer::error(status, &error)
    }

    /// The request is right, but not for what the intent has become.
    pub(super) fn unexpected_state(message: &str) -> Answer {
        Answer::error(
            400,
            &json!({
                "type": "invalid_request_error", "code": "payment_intent_unexpected_state", "message": message,
            }),
        )
    }

    pub(super) fn plain(status: u16, message: &str) -> Answer {
        let kind = if status < 500 { "invalid_request_error" } else { "api_error" };
        Answer::error(status, &json!({ "type": kind, "message": message }))
    }

    pub(super) fn idempotency(status: u16, code: Option<&str>, message: &str) -> Answer {
        let mut error = json!({ "type": "idempotency_error", "message": message });
        if let Some(code) = code {
            error["type"] = json!("invalid_request_error");
            error["code"] = json!(code);
        }
        Answer::error(status, &error)
    }

    /// Says that this answer was given before.
    pub(super) fn replayed(self) -> Response {
        let header = (HeaderName::from_static("idempotent-replayed"), HeaderValue::from_static("true"));
        ([header], self).into_response()
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let kind = (CONTENT_TYPE, HeaderValue::from_static("application/json"));
        (status, [kind], self.body).into_response()
    }
}
