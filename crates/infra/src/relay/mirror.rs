//! What the stream holds, how its sequences map to positions, and whether it's this log's at all.

use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{CreateStreamError, CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config, Info, LastRawMessageErrorKind, StorageType};
use async_nats::jetstream::{self, Context};
use tracing::info;
use uuid::Uuid;

use super::STREAM;
use crate::log::{Log, Recorded, signed};

/// A new stream begins this many events before the log's head; older ones are read from Postgres.
const BACKLOG: u64 = 100_000;
/// What the stream takes: [`subject`](super::subject)s, and those of before, which named the aggregate's id too.
const SUBJECTS: &str = "rentstream.>";
/// JetStream keeps events for two weeks at most; older ones are read from Postgres.
const MAX_AGE: Duration = Duration::from_secs(14 * 24 * 3600);

/// How much of the log the stream keeps, and on how many servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Bytes on each of them.
    pub max_bytes: i64,
    /// How many servers have a copy each.
    pub replicas: usize,
}

impl Kept {
    /// So much on a single server.
    pub const fn once(max_bytes: i64) -> Self {
        Self { max_bytes, replicas: 1 }
    }
}

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
    /// There aren't so many servers.
    #[error(
        "RENTSTREAM_STREAM_REPLICAS is {replicas}, but NATS can't keep the stream {STREAM} on {replicas} servers: \
         {why}. Let NATS be a cluster of {replicas} servers with JetStream or more, all of them up, or set fewer"
    )]
    TooFewServers {
        /// How many are asked for.
        replicas: usize,
        /// What NATS says.
        why: String,
    },
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

    /// Finds the stream or makes it, kept as it's to be.
    pub(super) async fn ensure(context: &Context, log: &Log, kept: Kept) -> Result<Self, Unlike> {
        match context.get_stream(STREAM).await {
            Ok(stream) => Self::fit(context, stream.cached_info(), kept).await?,
            Err(error) if missing(&error) => Self::make(context, log, kept).await?,
            Err(error) => return Err(Unlike::Nats(error.to_string())),
        }
        Self::open(context).await.map_err(Unlike::Nats)
    }

    async fn fit(context: &Context, info: &Info, kept: Kept) -> Result<(), Unlike> {
        let Kept { max_bytes, replicas } = kept;
        possible(info, kept)?;
        let mut config = info.config.clone();
        let subjects = vec![SUBJECTS.to_owned()];
        if (config.max_bytes, config.num_replicas, &config.subjects) != (max_bytes, replicas, &subjects) {
            (config.max_bytes, config.num_replicas, config.subjects) = (max_bytes, replicas, subjects);
            context.update_stream(config).await.map_err(|error| refused(&error, kept))?;
            info!(max_bytes, replicas, "The stream {STREAM} is kept so from now on");
        }
        Ok(())
    }

    async fn make(context: &Context, log: &Log, kept: Kept) -> Result<(), Unlike> {
        let Kept { max_bytes, replicas } = kept;
        let base = log.head().await?.saturating_sub(BACKLOG);
        let config = Config {
            name: STREAM.to_owned(),
            description: Some(format!(
                "The mirror of Rentstream's log; position = sequence + base; base={base}"
            )),
            subjects: vec![SUBJECTS.to_owned()],
            storage: StorageType::File,
            max_bytes,
            num_replicas: replicas,
            max_age: MAX_AGE,
            // Deletes would leave holes in what must be the log, event by event.
            deny_delete: true,
            allow_direct: true,
            ..Config::default()
        };
        context.create_stream(config).await.map_err(|error| refused(&error, kept))?;
        info!(base, max_bytes, replicas, "Made the stream {STREAM}");
        Ok(())
    }

    /// Makes a new stream in place of the one that's there. Readers keep their places, and read from Postgres what
    /// the new one doesn't hold; a relay fills it.
    ///
    /// # Errors
    /// When NATS or the log can't be reached, or there are too few servers.
    pub async fn reset(context: &Context, log: &Log, kept: Kept) -> Result<(), Unlike> {
        // So that the old one isn't deleted for nothing.
        log.head().await?;
        match context.get_stream(STREAM).await {
            Ok(stream) => {
                possible(stream.cached_info(), kept)?;
                context.delete_stream(STREAM).await.map_err(|error| Unlike::Nats(error.to_string()))?;
            }
            Err(error) if missing(&error) => {}
            Err(error) => return Err(Unlike::Nats(error.to_string())),
        }
        Self::make(context, log, kept).await
    }
}

fn missing(error: &jetstream::context::GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(error) if error.code() == 404)
}

/// A single server of some versions agrees to replicas that it can't make.
fn possible(info: &Info, kept: Kept) -> Result<(), Unlike> {
    let replicas = kept.replicas;
    if replicas > 1 && info.cluster.is_none() {
        return Err(Unlike::TooFewServers { replicas, why: "it's a single server".to_owned() });
    }
    Ok(())
}

/// Why the stream isn't kept as it's to be.
fn refused(error: &CreateStreamError, kept: Kept) -> Unlike {
    match error.kind() {
        CreateStreamErrorKind::JetStream(told)
            if [
                ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED,
                ErrorCode::CLUSTER_NO_PEERS,
                ErrorCode::INSUFFICIENT_RESOURCES,
            ]
            .contains(&told.error_code()) =>
        {
            let why = told.to_string();
            Unlike::TooFewServers { replicas: kept.replicas, why }
        }
        _ => Unlike::Nats(error.to_string()),
    }
}
