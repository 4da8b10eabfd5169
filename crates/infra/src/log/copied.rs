//! The log as Postgres copies it out, in COPY's binary format: for who reads all of it.

use chrono::DateTime;
use futures::stream::{self, Stream, StreamExt, TryStreamExt};
use serde_json::value::RawValue;
use sqlx::PgPool;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::{Decoded, Log, Metadata, Recorded, unsigned};

/// Pages that are read while others are decoded.
const AHEAD: usize = 2;
/// Pages that are decoded at once.
const DECODERS: usize = 2;
/// Bytes before the first event, which say nothing about it.
const HEADER: usize = 19;
/// Bytes after the last.
const TRAILER: usize = 2;
/// When Postgres' time begins, in microseconds of Unix' time.
const EPOCH: i64 = 946_684_800_000_000;

impl Log {
    /// The events of these aggregates after a position, up to another, page by page and in order, decoded already.
    /// Reading and decoding go on beside whatever is done with them; decoding is work for threads. A page has so many
    /// bytes of Postgres' format, at least, but for the last.
    pub fn copied<B: Fn() -> usize + Send + Sync + 'static>(
        &self,
        after: u64,
        to: u64,
        aggregates: &'static [&'static str],
        bytes: B,
    ) -> impl Stream<Item = Result<Vec<Recorded>, sqlx::Error>> + use<B> {
        let (pages, read) = mpsc::channel(AHEAD);
        let pool = self.pool.clone();
        tokio::spawn(async move {
            if let Err(error) = copy(&pool, (after, to), aggregates, (&bytes, &pages)).await {
                // Nobody may read any more.
                let _ = pages.send(Err(error)).await;
            }
        });
        let decode = |page: Result<Vec<u8>, sqlx::Error>| async {
            let page = page?;
            spawn_blocking(move || decode(&page)).await.map_err(|_| sqlx::Error::WorkerCrashed)?
        };
        stream::unfold(read, async |mut read| Some((read.recv().await?, read))).map(decode).buffered(DECODERS)
    }
}

/// Sends pages of whole events.
async fn copy(
    pool: &PgPool,
    (after, to): (u64, u64),
    aggregates: &[&'static str],
    (bytes, pages): (&(impl Fn() -> usize + Sync), &mpsc::Sender<Result<Vec<u8>, sqlx::Error>>),
) -> Result<(), sqlx::Error> {
    let statement = format!(
        "COPY (SELECT position, event_id, aggregate_type, aggregate_id, sequence, event_type, event_version, payload,
             metadata, recorded_at
         FROM events WHERE position > {after} AND position <= {to} AND aggregate_type IN ('{}') ORDER BY position)
         TO STDOUT (FORMAT binary)",
        aggregates.join("', '")
    );
    // Who stops reading leaves it in the middle, so it's nobody else's afterwards.
    let mut connection = pool.acquire().await?.detach();
    let mut copied = connection.copy_out_raw(&statement).await?;
    let (mut page, mut header) = (Vec::new(), HEADER);
    // Each event comes alone.
    while let Some(chunk) = copied.try_next().await? {
        page.extend_from_slice(chunk.get(std::mem::take(&mut header)..).unwrap_or_default());
        if page.len() >= bytes() {
            let next = Vec::with_capacity(page.len() + page.len() / 4);
            if pages.send(Ok(std::mem::replace(&mut page, next))).await.is_err() {
                return Ok(());
            }
        }
    }
    if page.len() > TRAILER {
        let _ = pages.send(Ok(page)).await;
    }
    Ok(())
}

fn decode(mut page: &[u8]) -> Result<Vec<Recorded>, sqlx::Error> {
    let mut events = Vec::new();
    while page.len() > TRAILER {
        let recorded =
            event(&mut page).ok_or_else(|| sqlx::Error::Decode("a copied event does not read".into()))?;
        // Decoded here, beside the others, and not where it's needed. What can't be is found out there.
        let _ = recorded.event();
        events.push(recorded);
    }
    Ok(events)
}

/// Takes an event off the page: the number of its fields, and then each of them.
fn event(page: &mut &[u8]) -> Option<Recorded> {
    let _ = bytes::<2>(page)?;
    Some(Recorded {
        position: unsigned(number(page)?),
        event_id: Uuid::from_slice(field(page)?).ok()?,
        aggregate_type: text(page)?,
        aggregate_id: text(page)?,
        sequence: unsigned(number(page)?),
        event_type: text(page)?,
        event_version: text(page)?,
        payload: RawValue::from_string(text(page)?).ok()?,
        metadata: Metadata::of(RawValue::from_string(text(page)?).ok()?),
        recorded_at: DateTime::from_timestamp_micros(number(page)?.checked_add(EPOCH)?)?,
        decoded: Decoded::default(),
    })
}

fn bytes<const N: usize>(page: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, rest) = page.split_first_chunk()?;
    *page = rest;
    Some(*bytes)
}

/// A field has its length before it. None of ours is null.
fn field<'a>(page: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = i32::from_be_bytes(bytes(page)?);
    let (field, rest) = page.split_at_checked(usize::try_from(length).ok()?)?;
    *page = rest;
    Some(field)
}

fn number(page: &mut &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(field(page)?.try_into().ok()?))
}

fn text(page: &mut &[u8]) -> Option<String> {
    String::from_utf8(field(page)?.to_vec()).ok()
}
