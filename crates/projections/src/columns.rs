//! The columns that are drawn from a row's JSON. A row is mostly what no column is drawn from, so it isn't made a tree for
//! it, and is read no further than needed.

use std::fmt;

use serde::de::{Deserializer as _, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::view::Definition;

/// The members that are a view's columns, in the columns' order, each as Postgres' `->>` would give it.
///
/// # Errors
/// When the row isn't an object of JSON, as far as it's read.
pub(crate) fn columns(view: &Definition, row: &str) -> Result<Vec<Option<String>>, sqlx::Error> {
    let mut drawn =
        Drawn { names: view.columns, found: vec![None; view.columns.len()], left: view.columns.len() };
    if drawn.left > 0 {
        let read = serde_json::Deserializer::from_str(row).deserialize_map(&mut drawn);
        // Where nothing is left to be drawn, the reader complains of what it wasn't asked for.
        read.or_else(|error| if drawn.left == 0 { Ok(()) } else { Err(sqlx::Error::Encode(error.into())) })?;
    }
    Ok(drawn.found.into_iter().map(Option::flatten).collect())
}

struct Drawn<'a> {
    names: &'a [(&'static str, &'static str)],
    /// Outside, what wasn't found yet; inside, what is null.
    found: Vec<Option<Option<String>>>,
    /// How many weren't.
    left: usize,
}

impl<'de> Visitor<'de> for &mut Drawn<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a row")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while self.left > 0
            && let Some(name) = members.next_key::<&str>()?
        {
            let of_column = self.names.iter().position(|(column, _)| *column == name);
            match of_column.and_then(|n| self.found.get_mut(n)) {
                None => {
                    members.next_value::<IgnoredAny>()?;
                }
                Some(found) => {
                    let member = text(members.next_value()?).map_err(A::Error::custom)?;
                    self.left -= usize::from(found.replace(member).is_none());
                }
            }
        }
        Ok(())
    }
}

fn text(member: &RawValue) -> serde_json::Result<Option<String>> {
    match member.get() {
        "null" => Ok(None),
        string if string.starts_with('"') => serde_json::from_str(string),
        other => Ok(Some(other.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(row: &str) -> Result<Vec<Option<String>>, String> {
        let columns = &[("status", "text"), ("at", "bigint"), ("open", "boolean")];
        let view = Definition { columns, ..crate::views::ALL[0] };
        super::columns(&view, row).map_err(|error| error.to_string())
    }

    fn of(columns: [Option<&str>; 3]) -> Result<Vec<Option<String>>, String> {
        Ok(columns.iter().map(|column| column.map(str::to_owned)).collect())
    }

    #[test]
    fn members_are_drawn_wherever_they_stand_as_their_text() {
        let row = r#"{"deep":{"at":1},"open":true,"status":"a \"b\" \n\u00e9","at":7,"rest":[1]}"#;
        assert_eq!(drawn(row), of([Some("a \"b\" \né"), Some("7"), Some("true")]));
        assert_eq!(drawn(r#"{"status":null,"rest":0}"#), of([None, None, None]));
        assert_eq!(drawn(r#"{"at":{"b": [1]}}"#), of([None, Some(r#"{"b": [1]}"#), None]));
    }

    #[test]
    fn what_is_no_row_is_an_error() {
        for row in ["", "[1]", "7", r#"{"status":"a""#, r#"{"status":}"#] {
            assert!(drawn(row).is_err(), "{row}");
        }
    }
}
