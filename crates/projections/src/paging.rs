//! Lists by keyset: a page names where the next one begins, so nothing is skipped or shown twice while
//! others write.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rentstream_infra::http::Problem;
use serde::Serialize;
use serde_json::Value;

const DEFAULT: i64 = 20;
const MOST: i64 = 100;

/// A page of a list.
#[derive(Debug, Serialize)]
pub struct Page {
    /// The rows.
    pub items: Vec<Value>,
    /// The cursor of the next page; `None` on the last.
    pub next: Option<String>,
}

/// The `limit` parameter: 1 to 100, 20 where it's not given.
///
/// # Errors
/// A problem that names the field.
pub fn limit(asked: Option<i64>) -> Result<i64, Problem> {
    match asked.unwrap_or(DEFAULT) {
        limit @ 1..=MOST => Ok(limit),
        _ => Err(Problem::invalid("limit", "it must be from 1 to 100")),
    }
}

/// The `cursor` parameter: the position before (newest first) or after (oldest first) which the page begins.
///
/// # Errors
/// A problem that names the field.
pub fn cursor(asked: Option<&str>) -> Result<Option<i64>, Problem> {
    asked
        .map(|text| {
            URL_SAFE_NO_PAD
                .decode(text)
                .ok()
                .and_then(|bytes| bytes.try_into().ok())
                .map(i64::from_be_bytes)
                .filter(|position| *position >= 0)
                .ok_or_else(|| Problem::invalid("cursor", "it is not a cursor that a list gave out"))
        })
        .transpose()
}

/// A parameter that must be one of these words.
///
/// # Errors
/// A problem that names the field.
pub fn one_of(field: &str, asked: Option<String>, words: &[&str]) -> Result<Option<String>, Problem> {
    match asked {
        Some(word) if !words.contains(&word.as_str()) => {
            Err(Problem::invalid(field, format!("it must be one of {}", words.join(", "))))
        }
        asked => Ok(asked),
    }
}

/// Makes a page of rows that were asked for one more than the limit.
pub fn page(mut rows: Vec<(i64, Value)>, limit: i64) -> Page {
    let more = rows.len() > usize::try_from(limit).unwrap_or(usize::MAX);
    if more {
        rows.pop();
    }
    let next =
        rows.last().filter(|_| more).map(|(position, _)| URL_SAFE_NO_PAD.encode(position.to_be_bytes()));
    Page { items: rows.into_iter().map(|(_, row)| row).collect(), next }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_to_where_the_page_ended() {
        let rows = |range: std::ops::Range<i64>| range.map(|n| (n, Value::from(n))).collect::<Vec<_>>();
        let first = page(rows(0..3), 2);
        assert_eq!(first.items, [0, 1]);
        assert_eq!(cursor(first.next.as_deref()).unwrap(), Some(1));
        assert_eq!(page(rows(0..2), 2).next, None);
    }

    #[test]
    fn a_bad_cursor_or_limit_is_named() {
        for bad in ["x", "AAAA", "////////////", "//////////8"] {
            assert_eq!(cursor(Some(bad)).unwrap_err().more["field"], "cursor");
        }
        for bad in [0, -1, 101] {
            assert_eq!(limit(Some(bad)).unwrap_err().more["field"], "limit");
        }
    }
}
