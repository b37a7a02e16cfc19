//! A client of `/status/stream` that sees every event and comment.

use std::time::Duration;

use serde_json::Value;

use crate::support::client::{latin1, message};
use crate::support::{Client, Gateway, Response, WAIT_MAX};

/// One event, or a comment if it has no kind.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) id: Option<u64>,
    pub(super) kind: String,
    pub(super) data: Value,
    pub(super) comment: Option<String>,
}

/// An open stream.
pub(super) struct EventStream {
    client: Client,
    head: Response,
    /// Bytes with the framing of chunks.
    chunked: Vec<u8>,
    text: String,
}

impl EventStream {
    /// Opens a stream; fails if it is refused.
    pub(super) async fn open(gateway: &Gateway, target: &str, headers: &[(&str, &str)]) -> Self {
        let stream = Self::try_open(Client::connect(gateway.admin_address()).await, target, headers).await;
        stream.unwrap_or_else(|refused| panic!("refused: {refused:?}"))
    }

    /// Opens a stream on a connection, or returns the refusal.
    pub(super) async fn try_open(
        mut client: Client,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, Response> {
        client.send(message("GET", target, headers, None)).await;
        let mut head = client.head().await;
        if head.status != 200 {
            client.body(&mut head, "GET").await;
            return Err(head);
        }
        assert_eq!(head.header("content-type"), Some("text/event-stream"));
        assert_eq!(head.header("transfer-encoding"), Some("chunked"));
        Ok(Self { client, head, chunked: Vec::new(), text: String::new() })
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The next event; none if the stream has ended.
    pub(super) async fn try_next(&mut self) -> Option<Event> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let event = parse(block);
                self.text = rest.to_owned();
                match event {
                    Some(event) => return Some(event),
                    // The pause before a reconnect.
                    None => continue,
                }
            }
            let bytes = self.client.read_some().await.ok()?;
            self.chunked.extend_from_slice(&bytes);
            self.unchunk();
        }
    }

    pub(super) async fn next(&mut self) -> Event {
        let next = tokio::time::timeout(WAIT_MAX, self.try_next()).await;
        next.expect("an event in time").expect("an event before the end")
    }

    /// The next event of a kind.
    pub(super) async fn next_of(&mut self, kind: &str) -> Event {
        loop {
            let event = self.next().await;
            if event.kind == kind {
                return event;
            }
        }
    }

    /// Whether no event comes within a time.
    pub(super) async fn is_quiet_for(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.try_next()).await.is_err()
    }

    fn unchunk(&mut self) {
        while let Some(line_end) = self.chunked.windows(2).position(|window| window == b"\r\n") {
            let size = usize::from_str_radix(&latin1(&self.chunked[..line_end]), 16).unwrap();
            let end = line_end + 2 + size + 2;
            if self.chunked.len() < end {
                return;
            }
            self.text.push_str(std::str::from_utf8(&self.chunked[line_end + 2..end - 2]).unwrap());
            self.chunked.drain(..end);
        }
    }
}

fn parse(block: &str) -> Option<Event> {
    let mut event = Event { id: None, kind: String::new(), data: Value::Null, comment: None };
    for line in block.lines() {
        match line.split_once(": ").unwrap() {
            ("id", id) => event.id = Some(id.parse().unwrap()),
            ("event", kind) => kind.clone_into(&mut event.kind),
            ("data", data) => event.data = serde_json::from_str(data).unwrap(),
            ("", comment) => event.comment = Some(comment.to_owned()),
            ("retry", _) => return None,
            (other, _) => panic!("unknown field {other} in {block}"),
        }
    }
    Some(event)
}
