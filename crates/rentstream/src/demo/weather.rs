//! The bank has a bad hour: orders by card are held with what they want put aside, and it all comes right by
//! itself. Without a sandbox gateway there is no weather to turn, and these scenes are left out.

use anyhow::{Result, ensure};

use super::day::Day;
use super::ordering::Order;
use super::sandbox::Sandbox;
use super::screen::local;
use super::watching::Rental;

impl Day<'_> {
    /// The bank's computers fail, or are well again.
    pub(super) async fn turn(&mut self, sandbox: &Sandbox, mode: &str) -> Result<()> {
        sandbox.turn(mode).await?;
        let says = match mode {
            "ok" => "The bank is back",
            _ => "The bank's computers fail",
        };
        self.found(says, mode, mode, &format!("POST {}/sandbox/mode", sandbox.url()));
        self.about = None;
        Ok(())
    }

    /// An order that nobody can take money for now: it's held, never half-accepted.
    pub(super) async fn held(&mut self, order: Order<'_>) -> Result<Rental> {
        let answer = self.ask(order.ask()).await?;
        let until = local(&answer.body["held_until"], "%H:%M");
        let mut rental = self.ordered(order, answer, "202 held")?;
        ensure!(until.is_some(), "a held order should say until when");
        let note = format!("      held until {}, {} put aside", until.unwrap_or_default(), order.item.name);
        self.town.screen.note(&note);
        self.watch(&mut rental, "RentalHeld").await?;
        Ok(rental)
    }
}
