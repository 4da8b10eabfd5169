//! Where a reader gets the next events from: the stream when it keeps up, Postgres when it doesn't.
//!
//! Every event is checked to be the one that follows the last, so nothing here trusts the broker: what
//! JetStream skips, loses or can't deliver is read from Postgres, and a reader that starts at 0 is a replay.

#[cfg(test)]
mod tests;

use std::time::Duration;

use async_nats::jetstream::consumer::pull::{Ordered, OrderedConfig};
use async_nats::jetstream::consumer::{Consumer, DeliverPolicy};
use async_nats::jetstream::{self};
use futures::{FutureExt, StreamExt};
use tracing::{debug, info};

use crate::log::{Log, Recorded};
use crate::relay::Mirror;

/// Events handed over at once.
pub const PAGE: usize = 500;
/// A silent stream is checked against the log this often: it may be the relay that stands still.
const SILENCE: Duration = Duration::from_millis(500);
/// How often a reader without NATS looks at the log when no wake-up came.
const POLL: Duration = Duration::from_millis(200);
/// How many pages are read from Postgres before the stream is tried again.
const PAGES_BEFORE_STREAM: u32 = 20;

/// One reader's source of events.
pub struct Feed {
    log: Log,
    nats: Option<async_nats::Client>,
    live: Option<Live>,
    pages: u32,
}

struct Live {
    messages: Ordered,
    base: u64,
    last: u64,
}

impl Feed {
    /// A source; without NATS it reads from Postgres alone.
    pub fn new(log: Log, nats: Option<async_nats::Client>) -> Self {
        Self { log, nats, live: None, pages: PAGES_BEFORE_STREAM }
    }

    /// The events that follow a position, 1 to [`PAGE`] of them; waits until there is one.
    ///
    /// # Errors
    /// When Postgres is needed and can't be reached.
    pub async fn after(&mut self, position: u64) -> Result<Vec<Recorded>, sqlx::Error> {
        loop {
            match self.live.take() {
                Some(live) if live.last == position => {
                    if let Some(page) = self.follow(live).await? {
                        return Ok(page);
                    }
                }
                _ => {
                    let mut woken = self.log.woken();
                    woken.mark_unchanged();
                    let page = self.log.page(position, PAGE).await?;
                    let behind = page.len() == PAGE;
                    self.pages += 1;
                    if !page.is_empty() {
                        if !behind && let Some(last) = page.last() {
                            self.go_live(last.position).await;
                        }
                        return Ok(page);
                    }
                    self.go_live(position).await;
                    if self.live.is_none() {
                        let _ = tokio::time::timeout(POLL, woken.changed()).await;
                    }
                }
            }
        }
    }

    /// Takes the next page from the stream and keeps the stream; or gives it up, and Postgres is next.
    async fn follow(&mut self, mut live: Live) -> Result<Option<Vec<Recorded>>, sqlx::Error> {
        let mut page = Vec::new();
        loop {
            let message = if page.is_empty() {
                match tokio::time::timeout(SILENCE, live.messages.next()).await {
                    Ok(message) => message,
                    Err(_) if self.log.head().await? == live.last => continue,
                    Err(_) => {
                        debug!(position = live.last, "The stream is silent, the log is not: reading the log");
                        self.pages = 0;
                        return Ok(None);
                    }
                }
            } else {
                // Only what is there already.
                match live.messages.next().now_or_never() {
                    Some(message) => message,
                    None => break,
                }
            };
            let recorded = match message {
                Some(Ok(message)) => read(&message, live.base, live.last + 1),
                Some(Err(error)) => Err(error.to_string()),
                None => Err("the consumer ended".to_owned()),
            };
            match recorded {
                Ok(recorded) => {
                    live.last = recorded.position;
                    page.push(recorded);
                }
                Err(why) => {
                    debug!(why, position = live.last, "The stream broke off, reading the log");
                    self.pages = 0;
                    return Ok((!page.is_empty()).then_some(page));
                }
            }
            if page.len() == PAGE {
                break;
            }
        }
        self.live = Some(live);
        Ok(Some(page))
    }

    /// Goes on from the stream if it has what follows this position.
    async fn go_live(&mut self, position: u64) {
        if self.pages < PAGES_BEFORE_STREAM {
            return;
        }
        self.pages = 0;
        let Some(client) = &self.nats else { return };
        if client.connection_state() != async_nats::connection::State::Connected {
            return;
        }
        let context =
            jetstream::context::ContextBuilder::new().timeout(Duration::from_secs(2)).build(client.clone());
        match open(&context, position).await {
            Ok(live) => {
                debug!(position, "Reading on from the stream");
                self.live = Some(live);
            }
            Err(why) => info!(position, why, "Reading on from the log, not the stream"),
        }
    }
}

async fn open(context: &jetstream::Context, position: u64) -> Result<Live, String> {
    let mirror = Mirror::open(context).await?;
    if position + 1 < mirror.first_position() {
        return Err(format!("the stream begins at {}", mirror.first_position()));
    }
    let config = OrderedConfig {
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: position + 1 - mirror.base },
        filter_subject: "rentstream.>".to_owned(),
        ..OrderedConfig::default()
    };
    let consumer: Consumer<OrderedConfig> =
        mirror.stream.create_consumer(config).await.map_err(|error| error.to_string())?;
    let messages = consumer.messages().await.map_err(|error| error.to_string())?;
    Ok(Live { messages, base: mirror.base, last: position })
}

/// Reads a message; its sequence and its content must both say that it is the event at `expected`.
fn read(message: &jetstream::Message, base: u64, expected: u64) -> Result<Recorded, String> {
    let sequence = message.info().map_err(|error| error.to_string())?.stream_sequence;
    let recorded: Recorded = serde_json::from_slice(&message.payload).map_err(|error| error.to_string())?;
    if recorded.position != expected || sequence + base != expected {
        return Err(format!(
            "position {} came at sequence {sequence}, expected was {expected}",
            recorded.position
        ));
    }
    Ok(recorded)
}
