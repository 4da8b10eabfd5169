//! Lines and tables for a terminal: colours where there is one, and Korean that lines up.

use std::io::{IsTerminal, Write};

use chrono::{DateTime, Local};
use serde_json::Value;

/// How text looks.
#[derive(Clone, Copy)]
pub(super) enum Ink {
    Bold,
    Dim,
    Green,
    Yellow,
    Red,
}

pub(super) struct Screen {
    colours: bool,
}

impl Screen {
    pub(super) fn new() -> Self {
        let dumb = std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty());
        Self { colours: std::io::stdout().is_terminal() && !dumb }
    }

    /// Prints a line. A reader who has closed the pipe misses it, the play goes on.
    pub(super) fn say(&self, line: &str) {
        let _ = writeln!(std::io::stdout(), "{line}");
    }

    pub(super) fn note(&self, line: &str) {
        self.say(&self.paint(Ink::Dim, line));
    }

    pub(super) fn paint(&self, ink: Ink, text: &str) -> String {
        if !self.colours || text.is_empty() {
            return text.to_owned();
        }
        let code = match ink {
            Ink::Bold => "1",
            Ink::Dim => "2",
            Ink::Green => "32",
            Ink::Yellow => "33",
            Ink::Red => "1;31",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// Prints rows with their columns aligned, numbers to the right; the first row heads them.
    pub(super) fn table(&self, indent: usize, rows: &[Vec<String>]) {
        let width =
            |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| columns(cell)).max();
        let widths: Vec<(usize, bool)> =
            (0..).map_while(|column| Some((width(column)?, are_numbers(rows, column)))).collect();
        for (number, row) in rows.iter().enumerate() {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .map(|(cell, (width, number))| {
                    let space = " ".repeat(width.saturating_sub(columns(cell)));
                    if *number { format!("{space}{cell}") } else { format!("{cell}{space}") }
                })
                .collect();
            let line = format!("{:indent$}{}", "", cells.join("  "));
            let line = line.trim_end();
            if number == 0 { self.note(line) } else { self.say(line) }
        }
    }
}

/// Whether all of a column below its head is numbers.
fn are_numbers(rows: &[Vec<String>], column: usize) -> bool {
    let digits = |cell: &String| cell.chars().all(|c| matches!(c, '0'..='9' | ',' | '₩'));
    rows.iter().skip(1).filter_map(|row| row.get(column)).all(digits)
}

/// Columns on a terminal: Korean, Chinese and Japanese letters take two.
pub(super) fn columns(text: &str) -> usize {
    let wide = |c: char| {
        matches!(u32::from(c), 0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff
            | 0xfe30..=0xfe6f | 0xff00..=0xff60 | 0xffe0..=0xffe6 | 0x1f300..=0x1faff | 0x20000..=0x3fffd)
    };
    text.chars().map(|c| if wide(c) { 2 } else { 1 }).sum()
}

pub(super) fn pad(text: &str, width: usize) -> String {
    format!("{text}{:1$}", "", width.saturating_sub(columns(text)))
}

/// Cuts what is longer, and shows that it did.
pub(super) fn cut(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let mut cut = String::new();
    for letter in text.chars() {
        if columns(&cut) + columns(letter.encode_utf8(&mut [0; 4])) >= width {
            break;
        }
        cut.push(letter);
    }
    format!("{}…", cut.trim_end())
}

/// An amount in won.
pub(super) fn won(amount: i64) -> String {
    format!("₩{}", thousands(amount))
}

pub(super) fn thousands(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if number < 0 { format!("-{grouped}") } else { grouped }
}

/// A time as the API writes it, on this machine's clock.
pub(super) fn local(time: &Value, format: &str) -> Option<String> {
    let time = DateTime::parse_from_rfc3339(time.as_str()?).ok()?;
    Some(time.with_timezone(&Local).format(format).to_string())
}

/// "1 unit", "3 units".
pub(super) fn count(number: usize, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn korean_lines_up_with_english() {
        assert_eq!(columns(&pad("채식주의자", 14)), columns(&pad("Vegetarian", 14)));
        assert_eq!(cut("채식주의자 · The Vegetarian", 12), "채식주의자…");
        assert_eq!(cut("Pachinko", 12), "Pachinko");
    }

    #[test]
    fn money_is_grouped() {
        assert_eq!([0, 999, 1_500, 1_234_567].map(won), ["₩0", "₩999", "₩1,500", "₩1,234,567"]);
        assert_eq!(won(-1_500), "₩-1,500");
    }
}
