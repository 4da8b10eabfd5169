//! Writes that are really at the server at the same time.
//!
//! Each has a connection of its own, and all of them have sent everything but their last byte before any sends
//! it. So none is answered before all are there.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use crate::world::PATIENCE;
use crate::{Answer, World};

impl World {
    /// Sends all of these at once, each by its token; gives their answers in the same order.
    pub async fn at_once(&self, path: &str, asked: &[(&str, Value)]) -> Vec<Answer> {
        let address = self.address("writes").trim_start_matches("http://").to_owned();
        let request = |(token, body): &(&str, Value)| {
            let body = body.to_string();
            format!(
                "POST {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
                 Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            )
        };
        let requests: Vec<String> = asked.iter().map(request).collect();
        let sent = tokio::task::spawn_blocking(move || send(&address, &requests)).await.unwrap();
        let answers: Vec<Answer> = sent.iter().map(|text| read(&format!("POST {path}"), text)).collect();
        for position in answers.iter().filter_map(Answer::position) {
            self.seen.fetch_max(position, Ordering::Relaxed);
        }
        answers
    }
}

fn send(address: &str, requests: &[String]) -> Vec<String> {
    let mut lines: Vec<TcpStream> = requests
        .iter()
        .map(|request| {
            let mut line = TcpStream::connect(address).unwrap();
            line.set_read_timeout(Some(PATIENCE)).unwrap();
            line.set_nodelay(true).unwrap();
            line.write_all(&request.as_bytes()[..request.len() - 1]).unwrap();
            line
        })
        .collect();
    for (line, request) in lines.iter_mut().zip(requests) {
        line.write_all(&request.as_bytes()[request.len() - 1..]).unwrap();
    }
    lines
        .iter_mut()
        .map(|line| {
            let mut answer = String::new();
            line.read_to_string(&mut answer).unwrap();
            answer
        })
        .collect()
}

fn read(of: &str, text: &str) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{of} got no answer: {text:?}"));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let headers: HeaderMap = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
        .collect();
    Answer {
        of: of.to_owned(),
        status: status.unwrap_or_else(|| panic!("{of} got no status: {head:?}")),
        headers,
        body: serde_json::from_str(body).unwrap_or(Value::Null),
    }
}
