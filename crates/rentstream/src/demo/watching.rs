//! One rental, and its timeline as it grows.

use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use serde_json::Value;
use tokio::time::Instant;

use super::api::{Answer, Ask, Who};
use super::day::{ANSWER, Day, WORDS};
use super::screen::{Ink, local, pad};

/// How long an event is waited for. The longest wait is a held payment's: its tries are up to 60 s apart.
const BOUND: Duration = Duration::from_secs(90);
/// When to say that we still wait.
const LONG: Duration = Duration::from_secs(5);
/// How soon a timeline is read again, at first.
const LOOK: Duration = Duration::from_millis(50);

pub(super) struct Rental {
    pub(super) id: String,
    /// Whose it is, and of what.
    whose: String,
    pub(super) delivery: Option<String>,
    /// The last event that was shown.
    shown: u64,
}

impl Rental {
    /// The rental that an answer tells of, be it a refusal.
    pub(super) fn answered(answer: &Answer, whose: String) -> Result<Self> {
        let delivery = answer.body["delivery_id"].as_str().map(str::to_owned);
        Ok(Self { id: answer.text("rental_id")?, whose, delivery, shown: 0 })
    }
}

impl Day<'_> {
    /// Shows the rental's new events, until there is one of this name.
    pub(super) async fn watch(&mut self, rental: &mut Rental, event: &str) -> Result<()> {
        let began = Instant::now();
        let mut impatient = false;
        loop {
            let page = self.ask(Ask::get(format!("/v1/rentals/{}", rental.id)).by(Who::Manager)).await?;
            let timeline = page.body["timeline"].as_array();
            let timeline =
                timeline.ok_or_else(|| anyhow!("{} has no timeline: {}", rental.id, page.whole()))?;
            for entry in timeline {
                let position = entry["position"].as_u64().unwrap_or_default();
                if position > rental.shown {
                    rental.shown = position;
                    self.turn_to(rental);
                    self.show(entry, position);
                }
            }
            if timeline.iter().any(|entry| entry["event"] == event) {
                self.position = self.position.max(rental.shown);
                return Ok(());
            }
            if began.elapsed() > BOUND {
                let (status, seconds) = (&page.body["status"], BOUND.as_secs());
                bail!("no {event} came within {seconds} s; rental {} is {status}", rental.id);
            }
            if !impatient && began.elapsed() > LONG {
                impatient = true;
                self.town.screen.note(&format!("        … waiting for: {}", told(event)));
            }
            tokio::time::sleep(LOOK.max(began.elapsed() / 10)).await;
        }
    }

    /// Says of whom the following lines are, where the last were of somebody else.
    fn turn_to(&mut self, rental: &Rental) {
        if self.about.as_ref() != Some(&rental.id) {
            self.about = Some(rental.id.clone());
            self.town.screen.say(&format!("    {}", rental.whose));
        }
    }

    fn show(&self, entry: &Value, position: u64) {
        let name = entry["event"].as_str().unwrap_or_default();
        let time = local(&entry["at"], "%H:%M:%S").unwrap_or_default();
        let screen = &self.town.screen;
        let said = pad(told(name), ANSWER - 16);
        let event = screen.paint(Ink::Dim, &format!("{}#{position}", pad(name, WORDS)));
        screen.say(&format!("      {} {said} {event}", screen.paint(Ink::Dim, &time)));
    }
}

/// An event in the shop's words.
fn told(event: &str) -> &str {
    match event {
        "RentalRequested" => "the order is in",
        "UnitsReserved" => "it is put aside for the customer",
        "PaymentRequested" => "the bill is made out",
        "PointsSpent" => "the points are taken",
        "PaymentApproved" => "it is paid",
        "PaymentDeclined" => "the payment is off, nothing is charged",
        "PaymentDeferred" => "the bank can't be reached, we'll try again",
        "RentalHeld" => "the order is on hold, it stays put aside",
        "RentalAccepted" => "the order is accepted",
        "RentalRejected" => "the order is rejected",
        "DeliveryStarted" => "the courier is on the way",
        "DeliveryCompleted" => "the courier has handed it over",
        "DeliveryCancelled" => "the courier is called back",
        "RentalDelivered" => "the customer has it",
        "RentalReturned" => "the customer has given it back",
        "UnitsReturned" => "it is back on the shelf",
        "RentalOverdue" => "it should have come back by now",
        "CancellationRequested" => "the customer wants to cancel",
        "CancellationRefused" => "too late to cancel",
        "RefundRequested" => "the money is to go back",
        "PointsRefunded" => "the points are given back",
        "PaymentRefunded" => "the money is back with the customer",
        "RentalCancelled" => "the order is cancelled",
        "UnitsReleased" => "it is free for others again",
        other => other,
    }
}
