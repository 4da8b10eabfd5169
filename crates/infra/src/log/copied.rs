//! The log as Postgres copies it out: for who reads all of it.

use std::borrow::Cow;
use std::str::FromStr;

use chrono::DateTime;
use futures::stream::{self, Stream, StreamExt, TryStreamExt};
use serde_json::value::RawValue;
use sqlx::PgPool;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::{Decoded, Log, Recorded};

/// Bytes of a page, at least, but for the last.
const PAGE: usize = 1 << 20;
/// Pages that are read while others are decoded.
const AHEAD: usize = 2;
/// Pages that are decoded at once.
const DECODERS: usize = 2;

impl Log {
    /// The events after a position, up to another, page by page and in order, decoded already. Reading and decoding
    /// go on beside whatever is done with them.
    pub fn copied(
        &self,
        after: u64,
        to: u64,
    ) -> impl Stream<Item = Result<Vec<Recorded>, sqlx::Error>> + use<> {
        let (pages, read) = mpsc::channel(AHEAD);
        let pool = self.pool.clone();
        tokio::spawn(async move {
            if let Err(error) = copy(&pool, after, to, &pages).await {
                // Nobody may read any more.
                let _ = pages.send(Err(error)).await;
            }
        });
        let decode = |page: Result<Vec<u8>, sqlx::Error>| async {
            let page = page?;
            spawn_blocking(move || decode(&page)).await.map_err(|error| sqlx::Error::Decode(error.into()))?
        };
        stream::unfold(read, async |mut read| Some((read.recv().await?, read))).map(decode).buffered(DECODERS)
    }
}

/// Sends pages of whole lines.
async fn copy(
    pool: &PgPool,
    after: u64,
    to: u64,
    pages: &mpsc::Sender<Result<Vec<u8>, sqlx::Error>>,
) -> Result<(), sqlx::Error> {
    let statement = format!(
        "COPY (SELECT position, event_id, aggregate_type, aggregate_id, sequence, event_type, event_version, payload,
             metadata, (extract(epoch FROM recorded_at) * 1000000)::bigint
         FROM events WHERE position > {after} AND position <= {to} ORDER BY position) TO STDOUT"
    );
    // Who stops reading leaves it in the middle, so it's nobody else's afterwards.
    let mut connection = pool.acquire().await?.detach();
    let mut copied = connection.copy_out_raw(&statement).await?;
    let mut page = Vec::with_capacity(PAGE * 2);
    while let Some(chunk) = copied.try_next().await? {
        page.extend_from_slice(&chunk);
        if page.len() < PAGE {
            continue;
        }
        let whole = page.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let rest = page.split_off(whole);
        if !page.is_empty() && pages.send(Ok(page)).await.is_err() {
            return Ok(());
        }
        page = Vec::with_capacity(PAGE * 2);
        page.extend(rest);
    }
    if !page.is_empty() {
        let _ = pages.send(Ok(page)).await;
    }
    Ok(())
}

fn decode(page: &[u8]) -> Result<Vec<Recorded>, sqlx::Error> {
    let page = std::str::from_utf8(page).map_err(|error| sqlx::Error::Decode(error.into()))?;
    let recorded = |line| {
        let recorded =
            line_of(line).ok_or_else(|| sqlx::Error::Decode("a copied event does not read".into()))?;
        // Decoded here, beside the others, and not where it's needed. What can't be is found out there.
        let _ = recorded.event();
        Ok(recorded)
    };
    page.lines().map(recorded).collect()
}

fn line_of(line: &str) -> Option<Recorded> {
    let mut fields = line.split('\t').map(unescape);
    let mut next = || fields.next();
    let recorded = Recorded {
        position: number(&next()?)?,
        event_id: number(&next()?)?,
        aggregate_type: next()?.into_owned(),
        aggregate_id: next()?.into_owned(),
        sequence: number(&next()?)?,
        event_type: next()?.into_owned(),
        event_version: next()?.into_owned(),
        payload: RawValue::from_string(next()?.into_owned()).ok()?,
        metadata: serde_json::from_str(&next()?).ok()?,
        recorded_at: DateTime::from_timestamp_micros(number(&next()?)?)?,
        decoded: Decoded::default(),
    };
    fields.next().is_none().then_some(recorded)
}

fn number<T: FromStr>(field: &str) -> Option<T> {
    field.parse().ok()
}

/// A field as it was before it was copied. None of ours is null.
fn unescape(field: &str) -> Cow<'_, str> {
    if !field.contains('\\') {
        return Cow::Borrowed(field);
    }
    let mut plain = String::with_capacity(field.len());
    let mut letters = field.chars();
    while let Some(letter) = letters.next() {
        plain.push(match letter {
            '\\' => match letters.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some('r') => '\r',
                Some('b') => '\u{8}',
                Some('f') => '\u{c}',
                Some('v') => '\u{b}',
                Some(other) => other,
                None => '\\',
            },
            other => other,
        });
    }
    Cow::Owned(plain)
}
