//! Webhooks to one endpoint of the shop, signed as Standard Webhooks says.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::Utc;
use futures::FutureExt;
use futures::future::BoxFuture;
use hmac::{Hmac, Mac};
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use serde_json::json;
use sha2::Sha256;

use super::post::{Endpoint, answered, send};
use super::{Channel, Delivery, Failure, Letter};
use crate::settings::list::{WEBHOOK_SECRET, WEBHOOK_URL};
use crate::settings::{Get, SettingError};

struct Webhook {
    endpoint: Endpoint,
    key: Hmac<Sha256>,
}

pub(super) fn configure(get: Get<'_>) -> Result<Option<Arc<dyn Channel>>, SettingError> {
    let Some(url) = get(&WEBHOOK_URL) else { return Ok(None) };
    let secret = get(&WEBHOOK_SECRET).ok_or_else(|| SettingError::new(&WEBHOOK_SECRET, "not set"))?;
    let key = key(&secret).ok_or_else(|| SettingError::new(&WEBHOOK_SECRET, "not a secret"))?;
    let endpoint = Endpoint::new(&WEBHOOK_URL, &url, HeaderMap::new())?;
    Ok(Some(Arc::new(Webhook { endpoint, key })))
}

fn key(secret: &str) -> Option<Hmac<Sha256>> {
    let bytes = STANDARD.decode(secret.strip_prefix("whsec_")?).ok()?;
    (24..=64).contains(&bytes.len()).then(|| Hmac::new_from_slice(&bytes).ok())?
}

/// The signature over id, time and body.
fn signature(key: &Hmac<Sha256>, id: &str, timestamp: i64, body: &str) -> String {
    let mut mac = key.clone();
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

impl Channel for Webhook {
    fn name(&self) -> &'static str {
        "webhook"
    }

    fn deliver<'a>(&'a self, letter: &'a Letter) -> BoxFuture<'a, Result<Delivery, Failure>> {
        async move {
            let Letter { notice, subject, words, .. } = letter;
            // The same every time, but for the time of the try.
            let body = json!({
                "type": format!("notice.{}", notice.kind.name()),
                "timestamp": notice.at,
                "data": { "notice": notice, "title": subject.title, "text": words },
            })
            .to_string();
            let (id, timestamp) = (notice.id.to_string(), Utc::now().timestamp());
            let post = self
                .endpoint
                .post()
                .header("webhook-id", &id)
                .header("webhook-timestamp", timestamp)
                .header("webhook-signature", signature(&self.key, &id, timestamp, &body))
                .header(CONTENT_TYPE, "application/json")
                .body(body);
            let status = send(post).await?;
            // Whatever else it answers may be put right at the endpoint, so it's tried again.
            if status.is_success() { Ok(Delivery::Sent) } else { Err(answered(status)) }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_signed_as_the_standard_says() {
        let key = key("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD");
        // 24 bytes are the fewest that the standard allows; its own example has just as many.
        let signed = signature(
            &key.unwrap(),
            "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
            1_649_367_553,
            r#"{"email":"test@example.com","username":"test_user"}"#,
        );
        assert_eq!(signed, "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=");
    }

    #[test]
    fn a_secret_that_is_none_is_refused() {
        for wrong in ["", "whsec_", "whsec_not base64", "whsec_c2hvcnQ=", "C2FVsBQIhrscChlQIMV+b5sSYspob7oD"]
        {
            assert!(key(wrong).is_none(), "{wrong}");
        }
    }
}
