//! A shop's day: each step is asked, told in lines, and checked. What is wrong is kept for the end.

use anyhow::{Result, anyhow};
use tokio::time::Instant;

use super::Town;
use super::api::{Answer, Api, Ask};
use super::data::Data;
use super::screen::{Ink, columns, cut, pad};

/// Where a line's answer stands.
pub(super) const ANSWER: usize = 64;
/// Columns for the answer.
pub(super) const WORDS: usize = 23;
/// Columns of a request in short.
const ASKED: usize = 132;

#[derive(Clone)]
pub(super) struct Item {
    pub(super) id: String,
    /// As a sentence calls it: the English half of the title.
    pub(super) name: String,
    pub(super) price: i64,
}

pub(super) struct Customer {
    pub(super) id: String,
    pub(super) name: String,
}

pub(super) struct Day<'a> {
    pub(super) town: &'a Town,
    pub(super) began: Instant,
    pub(super) data: Data,
    pub(super) items: Vec<Item>,
    /// Everybody's rentals, refused ones too.
    pub(super) rentals: Vec<String>,
    steps: usize,
    /// What was not as it should be.
    pub(super) wrong: Vec<String>,
    /// The rental that the lines tell of.
    pub(super) about: Option<String>,
    /// The log's last position that we know of; reads are to have seen it.
    pub(super) position: u64,
}

impl<'a> Day<'a> {
    pub(super) fn new(town: &'a Town, data: Data) -> Self {
        let title = format!("── {} · {} ", data.name, data.what);
        let rule = "─".repeat((ANSWER + WORDS + 8).saturating_sub(columns(&title)));
        town.screen.say(&format!("\n{}", town.screen.paint(Ink::Bold, &format!("{title}{rule}"))));
        Self {
            town,
            began: Instant::now(),
            data,
            items: Vec::new(),
            rentals: Vec::new(),
            steps: 0,
            wrong: Vec::new(),
            about: None,
            position: 0,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.data.name
    }

    pub(super) fn steps(&self) -> usize {
        self.steps
    }

    pub(super) fn api(&self) -> &'a Api {
        &self.town.api
    }

    /// The item of that English name.
    pub(super) fn item(&self, name: &str) -> Result<Item> {
        let found = self.items.iter().find(|item| item.name == name);
        found.cloned().ok_or_else(|| anyhow!("the script needs {name:?}, which is not in the shop's data"))
    }

    /// A new part of the day, and what it shows.
    pub(super) fn scene(&mut self, what: &str, shows: &str) {
        self.about = None;
        self.town.screen.say(&format!("\n  {}", self.town.screen.paint(Ink::Bold, what)));
        self.town.screen.note(&format!("  Shows: {shows}"));
    }

    /// Sends a request; a read's answer has seen all that we did.
    pub(super) async fn ask(&self, ask: Ask<'_>) -> Result<Answer> {
        let ask = if ask.is_read() { ask.find("after", self.position) } else { ask };
        self.api().send(ask).await
    }

    /// Prints a step: what was done, what came of it, and below it the request.
    pub(super) fn told(&mut self, says: &str, words: &str, position: Option<u64>, ink: Ink, asked: &str) {
        self.steps += 1;
        let screen = &self.town.screen;
        let mark = if matches!(ink, Ink::Red) { "✗" } else { "✓" };
        let position = position.map(|position| format!("#{position}")).unwrap_or_default();
        // A long sentence pushes its answer to the right rather than losing its end.
        let line = format!("  {mark} {}  {}", pad(says, ANSWER - 6), screen.paint(ink, &pad(words, WORDS)));
        screen.say(format!("{line}{}", screen.paint(Ink::Dim, &position)).trim_end());
        if !asked.is_empty() {
            screen.note(&format!("      {}", cut(asked, ASKED)));
        }
    }

    /// Tells a step and its answer, which is to begin with these words.
    pub(super) fn checked(&mut self, says: &str, answer: Answer, expected: &str) -> Answer {
        let (words, right) = (answer.words(), answer.words().starts_with(expected));
        let ink = match answer.status {
            _ if !right => Ink::Red,
            200 | 201 => Ink::Green,
            _ => Ink::Yellow,
        };
        self.told(says, &words, answer.position, ink, &answer.asked);
        if !right {
            self.amiss(format!(
                "{says:?} should be answered {expected}, and was answered {}",
                answer.whole()
            ));
        }
        self.position = self.position.max(answer.position.unwrap_or_default());
        answer
    }

    /// Tells what was found, which is to be so.
    pub(super) fn found(&mut self, says: &str, found: &str, expected: &str, asked: &str) {
        let right = found == expected;
        self.told(says, found, None, if right { Ink::Green } else { Ink::Red }, asked);
        if !right {
            self.amiss(format!("{says:?} should find {expected}, and found {found}"));
        }
    }

    /// Says at once that something is wrong, and keeps it for the end.
    pub(super) fn amiss(&mut self, what: String) {
        self.town.screen.say(&format!("      {}", self.town.screen.paint(Ink::Red, &what)));
        self.wrong.push(what);
    }

    /// Asks, tells, checks.
    pub(super) async fn step(&mut self, says: &str, ask: Ask<'_>, expected: &str) -> Result<Answer> {
        let answer = self.ask(ask).await?;
        Ok(self.checked(says, answer, expected))
    }
}
