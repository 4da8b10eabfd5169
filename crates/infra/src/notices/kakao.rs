//! KakaoTalk, by Kakao's message API: a text to the chatroom of the account whose token is set.
//!
//! Kakao lets a program write to that account only ("send to me"), or to its friends by an id that a shop does
//! not know of its customers. So this tells the shop itself what its customers are told.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde_json::json;

use super::post::{Endpoint, answered, send};
use super::{Channel, Delivery, Failure, Letter};
use crate::settings::list::{KAKAO_TOKEN, KAKAO_URL};
use crate::settings::{Get, SettingError};

const PATH: &str = "/v2/api/talk/memo/default/send";
/// Kakao's text template takes no more characters.
const LONGEST: usize = 200;

struct Kakao(Endpoint);

pub(super) fn configure(get: Get<'_>) -> Result<Option<Arc<dyn Channel>>, SettingError> {
    let Some(url) = get(&KAKAO_URL) else { return Ok(None) };
    let token = get(&KAKAO_TOKEN).ok_or_else(|| SettingError::new(&KAKAO_TOKEN, "not set"))?;
    let mut bearer = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| SettingError::new(&KAKAO_TOKEN, "not a token"))?;
    bearer.set_sensitive(true);
    let url = format!("{}{PATH}", url.trim_end_matches('/'));
    let headers = HeaderMap::from_iter([(AUTHORIZATION, bearer)]);
    Ok(Some(Arc::new(Kakao(Endpoint::new(&KAKAO_URL, &url, headers)?))))
}

/// The Korean words, and which rental they are about; Kakao gives messages no id.
fn text(letter: &Letter) -> String {
    let about = format!("\n[{}]", letter.notice.id);
    let room = LONGEST.saturating_sub(about.chars().count());
    let words = &letter.words.ko;
    if words.chars().count() <= room {
        return format!("{words}{about}");
    }
    let cut: String = words.chars().take(room.saturating_sub(1)).collect();
    format!("{cut}…{about}")
}

impl Channel for Kakao {
    fn name(&self) -> &'static str {
        "kakao"
    }

    fn deliver<'a>(&'a self, letter: &'a Letter) -> BoxFuture<'a, Result<Delivery, Failure>> {
        async move {
            let template = json!({ "object_type": "text", "text": text(letter), "link": {} });
            let status = send(self.0.post().form(&[("template_object", template.to_string())])).await?;
            match status {
                StatusCode::BAD_REQUEST => Err(Failure::Refused("it was answered with 400".to_owned())),
                // A token that has run out is replaced, a quota that is used up comes again.
                _ if !status.is_success() => Err(answered(status)),
                _ => Ok(Delivery::Sent),
            }
        }
        .boxed()
    }
}
