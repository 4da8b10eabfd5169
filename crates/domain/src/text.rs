//! Text that a person typed, checked once where it enters.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A line of 1 to `MAX` characters, trimmed, without control characters (`\n` and `\t` may stand in it).
///
/// It's checked where it is read, so that no rule behind has to ask again.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Text<const MAX: usize>(String);

/// A name or a title: up to 200 characters.
pub type Line = Text<200>;
/// A description or an address: up to 2,000 characters.
pub type Paragraph = Text<2000>;

impl<const MAX: usize> Text<MAX> {
    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Makes any text fit: what is too long is cut, what can't stand in it is left out, nothing becomes a
    /// dash. For the words of other systems, which must not be refused when money has moved already.
    pub fn lossy(text: &str) -> Self {
        let fitting: String = text.trim().chars().filter(|c| !c.is_control()).take(MAX).collect();
        let fitting = fitting.trim();
        Self(if fitting.is_empty() { "-".to_owned() } else { fitting.to_owned() })
    }
}

impl<const MAX: usize> TryFrom<String> for Text<MAX> {
    type Error = TextError;

    fn try_from(text: String) -> Result<Self, TextError> {
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Err(TextError::Empty);
        }
        if trimmed.chars().count() > MAX {
            return Err(TextError::TooLong(MAX));
        }
        if trimmed.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
            return Err(TextError::Control);
        }
        Ok(Self(trimmed.to_owned()))
    }
}

/// What [`Text`] is made of: something visible, no control characters but `\n` and `\t`.
const PATTERN: &str = concat!(
    r"^[^\u0000-\u0008\u000B-\u001F\u007F-\u009F]*",
    r"[^\s\u0000-\u001F\u007F-\u009F]",
    r"[^\u0000-\u0008\u000B-\u001F\u007F-\u009F]*$",
);

impl<const MAX: usize> JsonSchema for Text<MAX> {
    fn schema_name() -> Cow<'static, str> {
        format!("Text{MAX}").into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "maxLength": MAX, "pattern": PATTERN })
    }
}

impl<const MAX: usize> TryFrom<&str> for Text<MAX> {
    type Error = TextError;

    fn try_from(text: &str) -> Result<Self, TextError> {
        text.to_owned().try_into()
    }
}

impl<const MAX: usize> From<Text<MAX>> for String {
    fn from(text: Text<MAX>) -> Self {
        text.0
    }
}

impl<const MAX: usize> fmt::Debug for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<const MAX: usize> fmt::Display for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A word that the code itself says, such as `called_off`. As a constant it's checked when it is compiled.
#[derive(Clone, Copy)]
pub(crate) struct Word(&'static str);

impl Word {
    /// A word of small letters and underscores, short enough for any [`Text`].
    pub(crate) const fn new(word: &'static str) -> Self {
        let mut letters = word.as_bytes();
        assert!(!letters.is_empty() && letters.len() <= 50, "a word has 1 to 50 letters");
        while let [first, rest @ ..] = letters {
            assert!(
                first.is_ascii_lowercase() || *first == b'_',
                "a word is of small letters and underscores"
            );
            letters = rest;
        }
        Self(word)
    }
}

impl From<Word> for Line {
    fn from(word: Word) -> Self {
        Self(word.0.to_owned())
    }
}

/// Why a text can't be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Nothing but white space.
    #[error("it must not be empty")]
    Empty,
    /// More than so many characters.
    #[error("it must not be longer than {0} characters")]
    TooLong(usize),
    /// A control character, the NUL that Postgres can't store among them.
    #[error("it must not contain control characters")]
    Control,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_trimmed_and_bounded() {
        assert_eq!(Line::try_from("  책  ").map(String::from), Ok("책".to_owned()));
        assert_eq!(Line::try_from("   "), Err(TextError::Empty));
        assert_eq!(Line::try_from("a\0b"), Err(TextError::Control));
        assert_eq!(Line::try_from("책".repeat(201)), Err(TextError::TooLong(200)));
        assert!(Line::try_from("책".repeat(200)).is_ok());
    }

    #[test]
    fn a_word_reads_as_it_was_written() {
        const WORD: Word = Word::new("not_enough_points");
        assert_eq!(Line::try_from("not_enough_points"), Ok(WORD.into()));
    }
}
