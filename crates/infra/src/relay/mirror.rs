//! What the stream holds, how its sequences map to positions, and whether it's this log's at all.

use std::time::Duration;

use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::{Config, LastRawMessageErrorKind, StorageType};
use async_nats::jetstream::{self, Context};
use tracing::info;
use uuid::Uuid;

use super::STREAM;
use crate::log::{Log, Recorded, signed};

/// A new stream begins this many events before the log's head; older ones are read from Postgres.
const BACKLOG: u64 = 100_000;
/// JetStream keeps events for two weeks at most; older ones are read from Postgres.
const MAX_AGE: Duration = Duration::from_secs(14 * 24 * 3600);

/// The stream mirrors another log than this one, as after a restore of the log to an earlier moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Foreign {
    /// The stream holds what this log doesn't have.
    #[error(
        "the stream {STREAM} holds position {mirrored}, the log ends at {head}: the stream mirrors another log, or \
         this one as it was before it was restored. Nothing is published. Make a new stream from this log: \
         rentstream relay --reset-stream"
    )]
    Ahead {
        /// The stream's last position.
        mirrored: u64,
        /// The log's.
        head: u64,
    },
    /// They hold different events at the same position.
    #[error(
        "the stream {STREAM} and the log hold different events at position {position}: the stream mirrors another \
         log, or this one as it was before it was restored. Nothing is published. Make a new stream from this log: \
         rentstream relay --reset-stream"
    )]
    Differs {
        /// Where.
        position: u64,
    },
}

/// Why it isn't known whether the mirror is the log's, or that it isn't.
#[derive(Debug, thiserror::Error)]
pub enum Unlike {
    /// It isn't.
    #[error(transparent)]
    Foreign(#[from] Foreign),
    /// The log can't be read.
    #[error("the log can't be read: {0}")]
    Log(#[from] sqlx::Error),
    /// The stream can't be read.
    #[error("JetStream: {0}")]
    Nats(String),
}

/// What a mirror holds: JetStream's stream and how its sequences map to positions.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// The stream.
    pub stream: jetstream::stream::Stream,
    /// Stream sequence + base = position.
    pub base: u64,
}

impl Mirror {
    /// Finds the stream.
    ///
    /// # Errors
    /// When NATS can't be reached, there's no stream yet, or it isn't one of ours.
    pub async fn open(context: &Context) -> Result<Self, String> {
        let stream = context.get_stream(STREAM).await.map_err(|error| error.to_string())?;
        let description = stream.cached_info().config.description.as_deref().unwrap_or_default();
        let base = description
            .rsplit_once("base=")
            .and_then(|(_, base)| base.parse().ok())
            .ok_or_else(|| format!("the stream {STREAM} has no base in its description {description:?}"))?;
        Ok(Self { stream, base })
    }

    /// The position of the last event in the stream.
    pub fn position(&self) -> u64 {
        self.base + self.stream.cached_info().state.last_sequence
    }

    /// The position of the first event that the stream still keeps.
    pub fn first_position(&self) -> u64 {
        self.base + self.stream.cached_info().state.first_sequence.max(1)
    }

    /// Holds the stream's last event against the log, and gives its id, if the stream still keeps it. As nothing is
    /// published before it's committed, and nothing after an event that isn't the log's, that says all.
    ///
    /// # Errors
    /// See [`Unlike`].
    pub async fn compare(&self, log: &Log) -> Result<Option<Uuid>, Unlike> {
        let mirrored = self.position();
        // Read after the stream was looked at: what that holds was committed by then.
        let head = log.head().await?;
        if mirrored > head {
            return Err(Foreign::Ahead { mirrored, head }.into());
        }
        if self.stream.cached_info().state.messages == 0 {
            return Ok(None);
        }
        let message = match self.stream.get_raw_message(mirrored - self.base).await {
            Ok(message) => message,
            // Too old by now.
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => return Ok(None),
            Err(error) => return Err(Unlike::Nats(error.to_string())),
        };
        let held = serde_json::from_slice(&message.payload).map(|held: Recorded| held.event_id).ok();
        let recorded = log.at(&[signed(mirrored)]).await?;
        match (recorded.first(), held) {
            (Some(recorded), Some(held)) if recorded.event_id == held => Ok(Some(held)),
            _ => Err(Foreign::Differs { position: mirrored }.into()),
        }
    }

    /// Finds the stream or makes it, as large as it's to be.
    pub(super) async fn ensure(context: &Context, log: &Log, max_bytes: i64) -> Result<Self, Unlike> {
        let nats = |error: &dyn std::fmt::Display| Unlike::Nats(error.to_string());
        match context.get_stream(STREAM).await {
            Ok(stream) => {
                let mut config = stream.cached_info().config.clone();
                if config.max_bytes != max_bytes {
                    config.max_bytes = max_bytes;
                    context.update_stream(config).await.map_err(|error| nats(&error))?;
                    info!(max_bytes, "The stream {STREAM} keeps so many bytes from now on");
                }
            }
            Err(error) if missing(&error) => Self::make(context, log, max_bytes).await?,
            Err(error) => return Err(nats(&error)),
        }
        Self::open(context).await.map_err(Unlike::Nats)
    }

    async fn make(context: &Context, log: &Log, max_bytes: i64) -> Result<(), Unlike> {
        let base = log.head().await?.saturating_sub(BACKLOG);
        let config = Config {
            name: STREAM.to_owned(),
            description: Some(format!(
                "The mirror of Rentstream's log; position = sequence + base; base={base}"
            )),
            subjects: vec!["rentstream.*.*.*.*".to_owned()],
            storage: StorageType::File,
            max_bytes,
            max_age: MAX_AGE,
            // Deletes would leave holes in what must be the log, event by event.
            deny_delete: true,
            allow_direct: true,
            ..Config::default()
        };
        context.create_stream(config).await.map_err(|error| Unlike::Nats(error.to_string()))?;
        info!(base, max_bytes, "Made the stream {STREAM}");
        Ok(())
    }

    /// Makes a new stream in place of the one that's there. Readers keep their places, and read from Postgres what
    /// the new one doesn't hold; a relay fills it.
    ///
    /// # Errors
    /// When NATS or the log can't be reached.
    pub async fn reset(context: &Context, log: &Log, max_bytes: i64) -> Result<(), Unlike> {
        // So that the old one isn't deleted for nothing.
        log.head().await?;
        match context.delete_stream(STREAM).await {
            Ok(_) => {}
            Err(error) if missing(&error) => {}
            Err(error) => return Err(Unlike::Nats(error.to_string())),
        }
        Self::make(context, log, max_bytes).await
    }
}

fn missing(error: &jetstream::context::GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(error) if error.code() == 404)
}
