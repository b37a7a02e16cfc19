//! How a response body ends, and whether its connection may be used again (RFC 9112, 6.3 and 9.3).
//!
//! No I/O. A head with two answers to either question is refused: a guess would give bytes of one response to another request.

use std::time::Duration;

use actix_web::body::BodySize;
use actix_web::http::header::{CONTENT_LENGTH, HeaderMap};
use actix_web::http::{Method, StatusCode};
use tidegate_s3::request::BodyLength;

use crate::upstream::exchange::response_head_error::ResponseHeadError;

/// How a response body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UpstreamFraming {
    /// After this many bytes.
    Length(u64),
    /// With the last chunk.
    Chunked,
    /// With the close of the connection.
    Close,
    /// There is no body (HEAD, 204, 304).
    NoBody,
}

impl UpstreamFraming {
    /// The body size of the client's response.
    pub(crate) fn body_size(self, headers: &HeaderMap, method: &Method) -> BodySize {
        match self {
            Self::Length(bytes) => BodySize::Sized(bytes),
            Self::Chunked | Self::Close => BodySize::Stream,
            // The response to HEAD keeps the length of the body that GET would have.
            Self::NoBody if method == Method::HEAD => {
                let length = headers.get(CONTENT_LENGTH).and_then(|value| parse_length(value.as_bytes()));
                length.map_or(BodySize::None, BodySize::Sized)
            }
            Self::NoBody => BodySize::None,
        }
    }

    /// The framing for the decoder. None if the close ends the body.
    pub(super) fn body_length(self) -> Option<BodyLength> {
        match self {
            Self::Length(bytes) => Some(BodyLength::Known(bytes)),
            Self::Chunked => Some(BodyLength::Chunked),
            Self::NoBody => Some(BodyLength::Empty),
            Self::Close => None,
        }
    }
}

/// How a connection goes on after a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Persistence {
    /// It closes.
    Closes,
    /// It may be used again; at most after this idle time, if the upstream names one.
    Persists(Option<Duration>),
}

/// The fields of a head that decide on framing and persistence.
#[derive(Debug, Default)]
pub(super) struct FramingFields {
    length: Option<u64>,
    coding: Option<Coding>,
    closes: bool,
    keeps_alive: bool,
    idle_max: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Chunked,
    Other,
}

impl FramingFields {
    /// Reads a `Content-Length`. Returns its text if it is the first one: a repeated one adds nothing.
    pub(super) fn read_length<'a>(&mut self, value: &'a [u8]) -> Result<Option<&'a [u8]>, ResponseHeadError> {
        let mut first = None;
        for item in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let bytes = parse_length(item).ok_or(ResponseHeadError::Length)?;
            match self.length.replace(bytes) {
                None => first = Some(item),
                Some(other) if other != bytes => return Err(ResponseHeadError::DifferentLengths),
                Some(_) => {}
            }
        }
        Ok(first)
    }

    pub(super) fn read_coding(&mut self, value: &[u8]) {
        let is_chunked = self.coding.is_none() && value.trim_ascii().eq_ignore_ascii_case(b"chunked");
        self.coding = Some(if is_chunked { Coding::Chunked } else { Coding::Other });
    }

    pub(super) fn read_connection(&mut self, value: &[u8]) {
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            self.closes |= option.eq_ignore_ascii_case(b"close");
            self.keeps_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// Reads a `Keep-Alive` with a `timeout` in seconds (RFC 2068, 19.7.1.1). The gateway ends the idle time a second before the
    /// upstream does.
    pub(super) fn read_keep_alive(&mut self, value: &[u8]) {
        for parameter in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let Some((name, seconds)) = split_once(parameter, b'=') else { continue };
            if name.trim_ascii().eq_ignore_ascii_case(b"timeout")
                && let Some(seconds) = parse_length(seconds.trim_ascii())
            {
                let margin = if seconds > 1 { Duration::from_secs(1) } else { Duration::from_millis(500) };
                self.idle_max = Some(Duration::from_secs(seconds).saturating_sub(margin));
            }
        }
    }

    /// The framing of a final response, and what follows it on the connection.
    pub(super) fn decide(
        &self,
        (status, is_http_10): (StatusCode, bool),
        is_head: bool,
    ) -> Result<(UpstreamFraming, Persistence), ResponseHeadError> {
        if self.coding.is_some() {
            if self.length.is_some() {
                return Err(ResponseHeadError::LengthAndCoding);
            }
            if is_http_10 || self.coding == Some(Coding::Other) {
                return Err(ResponseHeadError::Coding);
            }
        }
        let framing = match (self.coding, self.length) {
            _ if is_head || matches!(status.as_u16(), 204 | 304) => UpstreamFraming::NoBody,
            (Some(_), _) => UpstreamFraming::Chunked,
            (None, Some(bytes)) => UpstreamFraming::Length(bytes),
            (None, None) => UpstreamFraming::Close,
        };
        // A 204 that announces a body may send it (RFC 9110, 8.6).
        let may_have_body =
            status.as_u16() == 204 && (self.coding.is_some() || self.length.is_some_and(|bytes| bytes > 0));
        let persists = !self.closes
            && (self.keeps_alive || !is_http_10)
            && framing != UpstreamFraming::Close
            && !may_have_body
            && self.idle_max != Some(Duration::ZERO);
        let persistence = if persists { Persistence::Persists(self.idle_max) } else { Persistence::Closes };
        Ok((framing, persistence))
    }
}

/// Digits only: a sign or white space is not a length (RFC 9110, 8.6).
fn parse_length(text: &[u8]) -> Option<u64> {
    let digits = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| digits(text))?.parse().ok()
}

fn split_once(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let position = memchr::memchr(at, text)?;
    Some((&text[..position], &text[position + 1..]))
}
