//! `docs/benchmarks.md`: written by the run itself, section by section.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};

/// A section's text and tables.
#[derive(Default)]
pub(crate) struct Part(String);

impl Part {
    /// Adds a paragraph.
    pub(crate) fn text(&mut self, paragraph: &str) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        self.0.push_str(paragraph);
        self.0.push('\n');
    }

    /// Adds a table.
    pub(crate) fn table(&mut self, columns: &[&str], rows: &[Vec<String>]) {
        let mut lines = vec![columns.join(" | "), vec!["---"; columns.len()].join(" | ")];
        lines.extend(rows.iter().map(|row| row.join(" | ")));
        let lines: Vec<String> = lines.into_iter().map(|line| format!("| {line} |")).collect();
        self.text(&lines.join("\n"));
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The file. A run of some sections leaves the others as they were.
pub(crate) struct Document {
    path: PathBuf,
    /// What Postgres is set to.
    settings: String,
    order: Vec<&'static str>,
    sections: BTreeMap<String, String>,
}

impl Document {
    /// What is there already, or nothing.
    pub(crate) fn open(path: PathBuf, settings: String, order: Vec<&'static str>) -> Self {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let mut sections = BTreeMap::new();
        for name in &order {
            if let Some((_, rest)) = text.split_once(&begins(name))
                && let Some((section, _)) = rest.split_once(&ends(name))
            {
                sections.insert((*name).to_owned(), section.trim().to_owned());
            }
        }
        Self { path, settings, order, sections }
    }

    /// Replaces a section and writes the file.
    pub(crate) fn put(&mut self, name: &str, section: &str) -> Result<()> {
        self.sections.insert(name.to_owned(), section.trim().to_owned());
        let mut text = format!("{HEAD} {}.\n", self.settings);
        for name in &self.order {
            if let Some(section) = self.sections.get(*name) {
                write!(text, "\n{}\n{section}\n\n{}\n", begins(name), ends(name))?;
            }
        }
        std::fs::write(&self.path, text).with_context(|| format!("write {}", self.path.display()))
    }
}

fn begins(name: &str) -> String {
    format!("<!-- {name} -->")
}

fn ends(name: &str) -> String {
    format!("<!-- end of {name} -->")
}

const HEAD: &str = "\
# Benchmarks

Written by `make bench`; `make bench ONLY=store,hot` replaces those sections. Load, program and Postgres share the
machine. Every figure stands beside its yardstick: both were taken in turn, round by round, in the same run against
the same Postgres. A figure is the median of its rounds, with the least and the greatest in brackets; a ratio is the
median of the rounds' ratios. Not all sections were taken on the same machine; each says on which, and what is compared
was taken on one. Postgres' settings:";
