//! Watching a stream of Server-Sent Events.

use std::collections::VecDeque;
use std::time::Duration;

use reqwest::Response;
use serde_json::Value;

use crate::world::PATIENCE;
use crate::{Answer, Ask};

/// An open stream. Dropped, the connection is cut.
pub struct Watch {
    response: Response,
    bytes: Vec<u8>,
    events: VecDeque<Told>,
    /// The last id that came.
    pub last_id: Option<String>,
    /// How long the client was asked to wait before it comes back, in milliseconds.
    pub retry: Option<u64>,
    /// Comments that came.
    pub comments: usize,
}

/// An event of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Its id, a position.
    pub id: u64,
    /// What kind it is.
    pub event: String,
    /// What it says.
    pub data: Value,
}

impl Ask<'_> {
    /// Opens a stream; waits until its first words have come.
    pub async fn watch(self) -> Watch {
        self.try_watch().await.unwrap_or_else(|answer| panic!("{} was answered {}", answer.of, answer.body))
    }

    /// As [`Ask::watch`], of one that may be refused.
    ///
    /// # Errors
    /// With the answer, when it's no stream.
    pub async fn try_watch(self) -> Result<Watch, Answer> {
        // It stays open for longer than any answer may take.
        let (response, path) = self.open(PATIENCE * 10).await;
        let kind = response.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
        if kind.as_deref() != Some("text/event-stream") {
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            let body = response.json().await.unwrap_or(Value::Null);
            return Err(Answer { of: path, status, headers, body });
        }
        assert_eq!(response.status(), 200);
        let mut watch = Watch {
            response,
            bytes: Vec::new(),
            events: VecDeque::new(),
            last_id: None,
            retry: None,
            comments: 0,
        };
        while watch.last_id.is_none() {
            assert!(watch.more().await, "{path} ended before it began");
        }
        Ok(watch)
    }
}

impl Watch {
    /// The next event, within bounds.
    pub async fn next(&mut self) -> Told {
        self.next_within(PATIENCE).await.expect("an event comes before the stream ends")
    }

    /// The next event; `None` when the stream has ended.
    pub async fn next_within(&mut self, bound: Duration) -> Option<Told> {
        let next = async {
            while self.events.is_empty() {
                if !self.more().await {
                    return None;
                }
            }
            self.events.pop_front()
        };
        tokio::time::timeout(bound, next).await.unwrap_or_else(|_| panic!("no event came within {bound:?}"))
    }

    /// Events up to the first one that is so, that one included.
    pub async fn until(&mut self, so: impl Fn(&Told) -> bool) -> Vec<Told> {
        let mut told = Vec::new();
        while !told.last().is_some_and(&so) {
            told.push(self.next().await);
        }
        told
    }

    /// Waits for a heartbeat.
    pub async fn heartbeat(&mut self) {
        let before = self.comments;
        let beat = async { while self.comments == before && self.more().await {} };
        tokio::time::timeout(PATIENCE, beat).await.expect("a heartbeat comes");
        assert!(self.comments > before, "the stream ended");
    }

    /// Reads on; false at the end.
    async fn more(&mut self) -> bool {
        let Some(chunk) = self.response.chunk().await.unwrap_or(None) else { return false };
        self.bytes.extend_from_slice(&chunk);
        while let Some(end) = self.bytes.windows(2).position(|pair| pair == b"\n\n") {
            let block: Vec<u8> = self.bytes.drain(..end + 2).collect();
            self.read(std::str::from_utf8(&block).unwrap());
        }
        true
    }

    fn read(&mut self, block: &str) {
        let (mut event, mut data) = (String::new(), None);
        for line in block.lines().filter(|line| !line.is_empty()) {
            let (field, value) = line.split_once(':').unwrap();
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" => self.comments += 1,
                "id" => self.last_id = Some(value.to_owned()),
                "retry" => self.retry = Some(value.parse().unwrap()),
                "event" => value.clone_into(&mut event),
                "data" => data = Some(serde_json::from_str(value).unwrap()),
                other => panic!("what is {other}? {block}"),
            }
        }
        if let Some(data) = data {
            let id = self.last_id.as_ref().and_then(|id| id.parse().ok()).expect("ids are positions");
            self.events.push_back(Told { id, event, data });
        }
    }
}
