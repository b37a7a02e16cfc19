//! Scans the answer on a hostile client's connection: whether it is a refusal, and whether it is complete.

use crate::framing::BodyFraming;
use crate::head;

/// A longer head is not parsed.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// The state of an incoming answer.
#[derive(Debug)]
pub(super) struct ResponseScan {
    /// None if the bytes are ignored.
    state: Option<State>,
    status: Option<u16>,
    has_reason: bool,
}

#[derive(Debug)]
enum State {
    Head(Vec<u8>),
    Body(BodyFraming),
}

impl ResponseScan {
    /// An answer to a request that was sent.
    pub(super) fn expected() -> Self {
        Self { state: Some(State::Head(Vec::new())), status: None, has_reason: false }
    }

    /// Ignores all bytes: for HTTP/2, or a request that is never complete.
    pub(super) fn ignored() -> Self {
        Self { state: None, status: None, has_reason: false }
    }

    /// Parses received bytes.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        let body = match &mut self.state {
            Some(State::Head(head)) => {
                head.extend_from_slice(bytes);
                match head::response(head) {
                    Ok(Some(read)) => {
                        self.status = Some(read.status);
                        self.has_reason = read.refusal.is_some();
                        let rest = head.split_off(read.length_bytes);
                        self.state = Some(State::Body(read.body));
                        rest
                    }
                    Ok(None) if head.len() < HEAD_BYTES_MAX => return,
                    _ => {
                        self.state = None;
                        return;
                    }
                }
            }
            Some(State::Body(_)) => bytes.to_vec(),
            None => return,
        };
        if let Some(State::Body(framing)) = &mut self.state
            && framing.feed(&body, |_| {}).is_err()
        {
            self.state = None;
        }
    }

    /// Whether the status is not 2xx.
    pub(super) fn is_refusal(&self) -> bool {
        self.status.is_some_and(|status| !(200..300).contains(&status))
    }

    /// Whether it has the reason of a refusal.
    pub(super) fn has_reason(&self) -> bool {
        self.has_reason
    }

    /// Whether the connection ended before the answer was complete.
    pub(super) fn is_broken(&self) -> bool {
        match &self.state {
            Some(State::Head(_)) => true,
            Some(State::Body(framing)) => !framing.is_done() && *framing != BodyFraming::UntilClose,
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_classified_in_pieces_of_any_size() {
        let refusal = "HTTP/1.1 503 No\r\nx-tidegate-reason: exhausted\r\ncontent-length: 2\r\n\r\nno";
        let short = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nno";
        let cases = [(refusal, true, true, false), (short, false, false, true), ("", false, false, true)];
        for (text, is_refusal, has_reason, is_broken) in cases {
            for piece in [1, 7, 1000] {
                let mut answer = ResponseScan::expected();
                text.as_bytes().chunks(piece).for_each(|bytes| answer.feed(bytes));
                let found = (answer.is_refusal(), answer.has_reason(), answer.is_broken());
                assert_eq!(found, (is_refusal, has_reason, is_broken), "{text:?}");
            }
        }
    }

    #[test]
    fn ignored_bytes_are_not_counted() {
        let mut answer = ResponseScan::ignored();
        answer.feed(b"\0\0\0");
        assert!(!answer.is_broken() && !answer.is_refusal());
    }
}
