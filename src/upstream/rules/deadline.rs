//! The deadline for the response head of a request (T1, T2), with the client's own timeout.
//!
//! A client sends its timeout in `x-request-timeout`: seconds (`2.5`), or a number with `ms`, `s`, `m` or `h` like a
//! Go duration. It can only shorten the total timeout of the bucket. Zero expires at once; there is no value for "no
//! timeout". A malformed value is rejected, not ignored, because the client would wait longer than it intends. The
//! deadline covers the queue, all attempts and all waits. Each attempt sends the remaining time to the upstream in
//! the client's format (Envoy's `x-envoy-expected-rq-timeout-ms` sends the same value with every attempt, reported as
//! #13196).
//!
//! A client's deadline is no failure of the upstream: it opens no circuit and ejects no endpoint, otherwise one
//! client with a timeout of 1 ms could close a bucket for everybody. `slow_call_duration` counts slow calls anyway.
//!
//! Server-side copies and CompleteMultipartUpload respond when the store is done, so they have their own timeout
//! (T2). Not supported: `grpc-timeout`, because no upstream speaks gRPC, and deadlines after the first byte, where
//! the idle timeout applies (T5).

use std::time::{Duration, Instant};

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use tidegate_config::{ClientDeadline, UpstreamConfig};

use crate::request_head::HeaderView;

/// The name of the header with the client's timeout.
pub(crate) const REQUEST_TIMEOUT_NAME: &str = "x-request-timeout";
/// The client's timeout, and towards the upstream the remaining time.
pub(crate) const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static(REQUEST_TIMEOUT_NAME);
/// Durations with more digits are rejected.
const DIGITS_MAX: usize = 9;

/// A malformed timeout of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MalformedDeadline;

/// The format of a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DurationFormat {
    /// `2.5`
    Seconds,
    /// `2500ms`
    Unit,
}

/// What to do with the client's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeadlineHeader {
    /// Forward it like any other header; it may be absent.
    Unchanged,
    /// Remove it.
    Removed,
    /// Replace it by the remaining time.
    Remaining(DurationFormat),
}

/// What the deadline of a request follows from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum DeadlineSource {
    /// The total timeout of the bucket.
    #[default]
    Total,
    /// The long operation timeout.
    LongOperation,
    /// The client's own timeout.
    Client,
}

/// When the response head is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deadline {
    pub(crate) started: Instant,
    /// The end of the total timeout if no body is transferred.
    pub(crate) total: Instant,
    /// Counts from the end of the request body.
    pub(crate) first_byte: Duration,
    /// Whether the client's timeout is shorter than the bucket's total timeout.
    pub(crate) is_client_deadline: bool,
    /// Whether the long operation timeout applies.
    pub(crate) is_long_operation: bool,
    /// Whether `total` follows from the long operation timeout, which is longer than the total timeout of other requests.
    pub(crate) has_long_total: bool,
    pub(crate) header: DeadlineHeader,
}

impl Deadline {
    /// The deadline of a request that began at `started`.
    pub(crate) fn of(
        headers: HeaderView<'_>,
        is_long: bool,
        upstream: &UpstreamConfig,
        started: Instant,
    ) -> Result<Self, MalformedDeadline> {
        let long = upstream.long_operation_timeout.filter(|_| is_long);
        let whole = upstream.request_timeout.max(long.unwrap_or_default());
        let bucket = Self {
            started,
            total: started + whole,
            first_byte: long.unwrap_or(upstream.timeout),
            is_client_deadline: false,
            is_long_operation: long.is_some(),
            has_long_total: long.is_some_and(|long| long > upstream.request_timeout),
            header: DeadlineHeader::Unchanged,
        };
        let Some(value) = headers.values(&REQUEST_TIMEOUT).next() else { return Ok(bucket) };
        let sends_remaining = match upstream.client_deadline {
            ClientDeadline::Ignore => return Ok(bucket),
            ClientDeadline::Enforce => None,
            ClientDeadline::Propagate => Some(DeadlineHeader::Remaining),
        };
        if headers.values(&REQUEST_TIMEOUT).nth(1).is_some() {
            return Err(MalformedDeadline);
        }
        let (given, duration_format) =
            value.to_str().ok().and_then(parse_duration).ok_or(MalformedDeadline)?;
        Ok(Self {
            total: started + given.min(whole),
            is_client_deadline: given < whole,
            header: sends_remaining.map_or(DeadlineHeader::Removed, |remaining| remaining(duration_format)),
            ..bucket
        })
    }

    /// What the end of the total timeout follows from.
    pub(crate) fn source(&self) -> DeadlineSource {
        match (self.is_client_deadline, self.has_long_total) {
            (true, _) => DeadlineSource::Client,
            (false, true) => DeadlineSource::LongOperation,
            (false, false) => DeadlineSource::Total,
        }
    }

    /// Writes the remaining time into the headers of an attempt that begins now.
    pub(crate) fn write(&self, headers: &mut HeaderMap, now: Instant) {
        let left_ms = self.total.saturating_duration_since(now).as_millis();
        let value = match self.header {
            DeadlineHeader::Unchanged => return,
            DeadlineHeader::Removed => {
                headers.remove(REQUEST_TIMEOUT);
                return;
            }
            DeadlineHeader::Remaining(DurationFormat::Seconds) => {
                format!("{}.{:03}", left_ms / 1000, left_ms % 1000)
            }
            DeadlineHeader::Remaining(DurationFormat::Unit) => format!("{left_ms}ms"),
        };
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(REQUEST_TIMEOUT, value);
        }
    }
}

/// Parses a number with at most one point, and a unit.
fn parse_duration(text: &str) -> Option<(Duration, DurationFormat)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let is_number = |digits: &str| {
        (1..=DIGITS_MAX).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit())
    };
    if !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let (seconds, duration_format) = match unit {
        "" => (1.0, DurationFormat::Seconds),
        "ms" => (0.001, DurationFormat::Unit),
        "s" => (1.0, DurationFormat::Unit),
        "m" => (60.0, DurationFormat::Unit),
        "h" => (3600.0, DurationFormat::Unit),
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    Some((Duration::try_from_secs_f64(number * seconds).ok()?, duration_format))
}

#[cfg(test)]
mod tests {
    use tidegate_actors::clock;

    use super::*;

    fn headers_with(values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(REQUEST_TIMEOUT, HeaderValue::from_static(value));
        }
        headers
    }

    fn deadline(
        values: &[&'static str],
        upstream: &UpstreamConfig,
    ) -> Result<(u128, bool), MalformedDeadline> {
        let now = clock::now();
        let deadline = Deadline::of(HeaderView::of(&headers_with(values)), false, upstream, now)?;
        Ok(((deadline.total - now).as_millis(), deadline.is_client_deadline))
    }

    /// T1
    #[test]
    fn a_clients_timeout_can_only_shorten_the_buckets() {
        let upstream = UpstreamConfig::default();
        for (text, ms) in
            [("2", 2000), ("2.5", 2500), ("250ms", 250), ("3s", 3000), ("0.25m", 15_000), ("0", 0)]
        {
            assert_eq!(deadline(&[text], &upstream), Ok((ms, true)), "{text}");
        }
        for long in ["30", "1h", "31s", "999999999h"] {
            assert_eq!(deadline(&[long], &upstream), Ok((30_000, false)), "{long}");
        }
        assert_eq!(deadline(&[], &upstream), Ok((30_000, false)));
    }

    /// T1
    #[test]
    fn a_malformed_timeout_is_rejected() {
        let upstream = UpstreamConfig::default();
        for text in [
            "",
            "-1",
            "+1",
            "1e3",
            ".5",
            "5.",
            "1.2.3",
            "s",
            "1 s",
            "1S",
            "2d",
            "NaN",
            "inf",
            "1m30s",
            "9999999999",
            "0x1",
        ] {
            assert_eq!(deadline(&[text], &upstream), Err(MalformedDeadline), "{text}");
        }
        assert_eq!(deadline(&["1", "1"], &upstream), Err(MalformedDeadline));
        let ignoring = UpstreamConfig { client_deadline: ClientDeadline::Ignore, ..upstream };
        assert_eq!(deadline(&["soon", "1"], &ignoring), Ok((30_000, false)));
    }

    /// T1
    #[test]
    fn the_remaining_time_is_sent_in_the_clients_format() {
        let (upstream, now) = (UpstreamConfig::default(), clock::now());
        let sent = |value, upstream: &UpstreamConfig| {
            let mut headers = headers_with(&[value]);
            let deadline = Deadline::of(HeaderView::of(&headers), false, upstream, now).unwrap();
            deadline.write(&mut headers, now + Duration::from_millis(750));
            headers.get(REQUEST_TIMEOUT).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(sent("2", &upstream).as_deref(), Some("1.250"));
        assert_eq!(sent("2s", &upstream).as_deref(), Some("1250ms"));
        assert_eq!(sent("1h", &upstream).as_deref(), Some("29250ms"));
        assert_eq!(sent("0.5", &upstream).as_deref(), Some("0.000"));
        let keeping = UpstreamConfig { client_deadline: ClientDeadline::Enforce, ..upstream.clone() };
        assert_eq!(sent("2", &keeping), None);
        let ignoring = UpstreamConfig { client_deadline: ClientDeadline::Ignore, ..upstream };
        assert_eq!(sent("2", &ignoring).as_deref(), Some("2"));
    }

    /// T2
    #[test]
    fn a_long_operation_has_its_own_timeout_unless_the_clients_is_shorter() {
        let (upstream, now) = (UpstreamConfig::default(), clock::now());
        let of = |values: &[&'static str]| {
            Deadline::of(HeaderView::of(&headers_with(values)), true, &upstream, now).unwrap()
        };
        let long = of(&[]);
        assert_eq!((long.total - now, long.first_byte), (Duration::from_secs(300), Duration::from_secs(300)));
        assert_eq!(of(&["100"]).total - now, Duration::from_secs(100));
        assert!(of(&["100"]).is_client_deadline && !of(&["301"]).is_client_deadline);
    }
}
