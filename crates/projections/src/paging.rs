//! Lists by keyset: a page names where the next one begins, so nothing is skipped or shown twice while
//! others write.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use rentstream_infra::http::Problem;
use schemars::JsonSchema;
use serde::Serialize;

const DEFAULT: i64 = 20;
const MOST: i64 = 100;

/// A page of a list.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PageOf{T}")]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// The cursor of the next page; `None` on the last.
    pub next: Option<String>,
    /// Since when something that might be in the list can't be shown; an operator has to look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub degraded_since: Option<DateTime<Utc>>,
}

impl<T> Page<T> {
    /// The page, of a list that may be incomplete since then.
    pub(crate) fn degraded(self, degraded_since: Option<DateTime<Utc>>) -> Self {
        Self { degraded_since, ..self }
    }
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
    Ok(cursor_of::<1>(asked)?.map(|[position]| position))
}

/// The `cursor` parameter of a list that is sorted by several numbers.
///
/// # Errors
/// A problem that names the field.
pub fn cursor_of<const N: usize>(asked: Option<&str>) -> Result<Option<[i64; N]>, Problem> {
    let wrong = || Problem::invalid("cursor", "it is not a cursor that a list gave out");
    let Some(text) = asked else { return Ok(None) };
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| wrong())?;
    let (numbers, rest) = bytes.as_chunks::<8>();
    let numbers: Vec<i64> = numbers.iter().map(|bytes| i64::from_be_bytes(*bytes)).collect();
    if !rest.is_empty() || numbers.iter().any(|number| *number < 0) {
        return Err(wrong());
    }
    numbers.try_into().map(Some).map_err(|_| wrong())
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
pub fn page<T>(rows: Vec<(i64, T)>, limit: i64) -> Page<T> {
    page_of(rows.into_iter().map(|(position, row)| ([position], row)).collect(), limit)
}

/// As [`page`], of rows that are sorted by several numbers.
pub fn page_of<T, const N: usize>(mut rows: Vec<([i64; N], T)>, limit: i64) -> Page<T> {
    let more = rows.len() > usize::try_from(limit).unwrap_or(usize::MAX);
    if more {
        rows.pop();
    }
    let next = rows
        .last()
        .filter(|_| more)
        .map(|(numbers, _)| URL_SAFE_NO_PAD.encode(numbers.map(i64::to_be_bytes).as_flattened()));
    Page { items: rows.into_iter().map(|(_, row)| row).collect(), next, degraded_since: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_to_where_the_page_ended() {
        let rows = |range: std::ops::Range<i64>| range.map(|n| (n, n)).collect::<Vec<_>>();
        let first = page(rows(0..3), 2);
        assert_eq!(first.items, [0, 1]);
        assert_eq!(cursor(first.next.as_deref()).unwrap(), Some(1));
        assert_eq!(page(rows(0..2), 2).next, None);
    }

    #[test]
    fn a_cursor_of_two_numbers_is_none_of_one() {
        let rows = vec![([5, 7], 0), ([5, 8], 0)];
        let next = page_of(rows, 1).next;
        assert_eq!(cursor_of::<2>(next.as_deref()).unwrap(), Some([5, 7]));
        assert_eq!(cursor(next.as_deref()).unwrap_err().more["field"], "cursor");
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
