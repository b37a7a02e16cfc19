//! Reads server-sent events (HTML Living Standard, 9.2) as the gateway writes them.

use std::io;

/// The longest event.
const EVENT_BYTES_MAX: usize = 16 << 20;

/// One event.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ReceivedEvent {
    pub(crate) id: Option<String>,
    pub(crate) kind: String,
    pub(crate) data: String,
}

/// The received bytes that are no whole event yet.
#[derive(Default)]
pub(crate) struct EventBuffer {
    bytes: Vec<u8>,
    /// The beginning that has no end of an event.
    searched: usize,
}

impl EventBuffer {
    /// Adds bytes; returns the events that are complete now. Comments are left out.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> io::Result<Vec<ReceivedEvent>> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > EVENT_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an event is too long"));
        }
        let (mut events, mut begin) = (Vec::new(), 0);
        while let Some(found) = memchr::memmem::find(&self.bytes[self.searched..], b"\n\n") {
            let end = self.searched + found + 2;
            events.extend(parse(&String::from_utf8_lossy(&self.bytes[begin..end])));
            (begin, self.searched) = (end, end);
        }
        // Once for all events: a drain for each would move the rest each time.
        self.bytes.drain(..begin);
        // The last byte may be the first half of an end.
        self.searched = self.bytes.len().saturating_sub(1);
        Ok(events)
    }
}

fn parse(block: &str) -> Option<ReceivedEvent> {
    let mut event = ReceivedEvent::default();
    for line in block.lines() {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "id" => event.id = Some(value.to_owned()),
            "event" => value.clone_into(&mut event.kind),
            "data" => event.data.push_str(value),
            _ => {}
        }
    }
    (!event.kind.is_empty()).then_some(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// X7: events are found whatever pieces they arrive in, and comments are not events
    #[test]
    fn events_arrive_in_any_pieces() {
        let text = "retry: 1000\n\nid: 7\nevent: change\ndata: {\"a\":\"é\"}\n\n: heartbeat\n\nevent: sample\ndata: {}\n\nid: 9";
        let event = |id: Option<&str>, kind: &str, data: &str| ReceivedEvent {
            id: id.map(str::to_owned),
            kind: kind.to_owned(),
            data: data.to_owned(),
        };
        let expected = [event(Some("7"), "change", "{\"a\":\"é\"}"), event(None, "sample", "{}")];
        for size in 1..text.len() {
            let mut buffer = EventBuffer::default();
            let pieces = text.as_bytes().chunks(size);
            let events: Vec<_> = pieces.flat_map(|piece| buffer.add(piece).unwrap()).collect();
            assert_eq!(events, expected, "{size}");
            assert_eq!(buffer.bytes, b"id: 9");
        }
    }

    /// X7
    #[test]
    fn an_endless_event_is_an_error() {
        let mut buffer = EventBuffer::default();
        assert!((0..20).any(|_| buffer.add(&[b'x'; 1 << 20]).is_err()));
    }
}
