//! A figure that was taken several times: its median, and how far it was spread.

use std::fmt;

/// Median, least and greatest of some figures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    least: f64,
    greatest: f64,
}

impl Spread {
    /// Of one figure per round.
    pub(crate) fn of(figures: &[f64]) -> Self {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let middle = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { at(middle) } else { (at(middle.wrapping_sub(1)) + at(middle)) / 2.0 };
        Self { median, least: at(0), greatest: at(sorted.len().wrapping_sub(1)) }
    }

    /// Of what each round of one is to the same round of another: what slowed both down tells nothing.
    pub(crate) fn of_ratios(ours: &[f64], yardstick: &[f64]) -> Self {
        let ratios: Vec<f64> = ours.iter().zip(yardstick).map(|(ours, yardstick)| ours / yardstick).collect();
        Self::of(&ratios)
    }
}

/// As in `23,400 (22,900–24,100)`; small ones with decimals.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}–{})", figure(self.median), figure(self.least), figure(self.greatest))
    }
}

/// Three digits that count or about so, thousands set apart.
pub(crate) fn figure(value: f64) -> String {
    match value.abs() {
        0.0..0.1 => format!("{value:.4}"),
        0.1..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => {
            let whole = format!("{value:.0}");
            let digits: Vec<char> = whole.chars().collect();
            let groups: Vec<String> = digits.rchunks(3).rev().map(|group| group.iter().collect()).collect();
            groups.join(",")
        }
    }
}

/// What is to be reached, and whether it is.
pub(crate) fn reach(what: &str, reached: bool) -> String {
    format!("{what}: {}", if reached { "reached" } else { "**not reached**" })
}
