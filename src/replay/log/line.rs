//! The fields of a log line that a replay uses.

use std::borrow::Cow;
use std::net::IpAddr;

use tidegate_actors::OperationClass;

/// A line of the access log.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct RequestFields<'a> {
    pub(crate) method: Cow<'a, str>,
    pub(crate) bucket: Option<Cow<'a, str>>,
    pub(crate) status: u16,
    pub(crate) reason: Option<Cow<'a, str>>,
    pub(crate) client: Option<IpAddr>,
    pub(crate) key: Option<Cow<'a, str>>,
    pub(crate) subject: Option<Cow<'a, str>>,
    pub(crate) class: Option<OperationClass>,
    pub(crate) attempts: Option<u64>,
    pub(crate) attempts_detail: Option<Cow<'a, str>>,
    pub(crate) admission_us: Option<u64>,
    pub(crate) queue_us: Option<u64>,
    pub(crate) first_byte_us: Option<u64>,
    pub(crate) start_us: Option<u64>,
    pub(crate) total_us: Option<u64>,
}

/// Another line, as far as an incident uses it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct OtherFields<'a> {
    pub(crate) level: Cow<'a, str>,
    pub(crate) message: Cow<'a, str>,
    /// All other fields in their order.
    pub(crate) fields: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

/// What a line is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum LineKind<'a> {
    /// An access line.
    Request(Box<RequestFields<'a>>),
    /// A line with another message.
    Other(OtherFields<'a>),
}

/// A line of tidegate's log.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LogLine<'a> {
    /// When it was written, in microseconds since 1970.
    pub(crate) written_us: u64,
    pub(crate) kind: LineKind<'a>,
}

/// Why a line cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LineError {
    /// It is no line of tidegate's log, or it is cut.
    Malformed,
    /// It is an access line without the time that the request took, or with figures out of range.
    Incomplete,
}

/// Collects the fields of a line. Values are given as text or as a number, in any order.
#[derive(Debug, Default)]
pub(crate) struct FieldCollector<'a> {
    pub(crate) request: Box<RequestFields<'a>>,
    pub(crate) is_request: bool,
    /// Whether other lines keep their fields, and lines of connections without a request are used.
    pub(crate) keeps_other_fields: bool,
    pub(crate) other: OtherFields<'a>,
    pub(crate) written_us: Option<u64>,
}

impl<'a> FieldCollector<'a> {
    /// A field with a text.
    pub(crate) fn text(&mut self, key: &str, value: Cow<'a, str>) {
        if !self.is_request {
            return self.other_field(key, value);
        }
        let request = &mut self.request;
        match key {
            "method" => request.method = value,
            "bucket" => request.bucket = Some(value),
            "reason" => request.reason = Some(value),
            "client" => request.client = value.parse().ok(),
            "key" => request.key = Some(value),
            "subject" => request.subject = Some(value),
            "class" => request.class = class(&value),
            "attempts_detail" => request.attempts_detail = Some(value),
            _ => {}
        }
    }

    /// A field with a number. A number that does not fit is left out.
    pub(crate) fn number(&mut self, key: &str, value: u64) {
        if !self.is_request {
            if self.keeps_other_fields {
                self.other_field(key, value.to_string().into());
            }
            return;
        }
        let request = &mut self.request;
        match key {
            "status" => request.status = u16::try_from(value).unwrap_or_default(),
            "attempts" => request.attempts = Some(value),
            "admission_us" => request.admission_us = Some(value),
            "queue_us" => request.queue_us = Some(value),
            "first_byte_us" => request.first_byte_us = Some(value),
            "start_us" => request.start_us = Some(value),
            "total_us" => request.total_us = Some(value),
            _ => {}
        }
    }

    fn other_field(&mut self, key: &str, value: Cow<'a, str>) {
        if self.keeps_other_fields {
            self.other.fields.push((key.to_owned().into(), value));
        }
    }

    /// The message of the line. Fields after it belong to the kind of line that the message names.
    pub(crate) fn message(&mut self, message: Cow<'a, str>) {
        self.is_request = message == "request";
        self.other.message = message;
    }

    pub(crate) fn finish(self) -> Result<LogLine<'a>, LineError> {
        let written_us = self.written_us.ok_or(LineError::Malformed)?;
        if self.other.message.is_empty() {
            return Err(LineError::Malformed);
        }
        if !self.is_request {
            return Ok(LogLine { written_us, kind: LineKind::Other(self.other) });
        }
        // A time of more than a year is damage. A connection that ended before a request has no duration.
        let Self { request, .. } = &self;
        let phases = [request.admission_us, request.queue_us, request.first_byte_us];
        let is_replayable = request.total_us.is_some_and(|total| total <= YEAR_US)
            && phases.into_iter().flatten().all(|phase| phase <= YEAR_US);
        if !is_replayable && !self.keeps_other_fields {
            return Err(LineError::Incomplete);
        }
        Ok(LogLine { written_us, kind: LineKind::Request(self.request) })
    }
}

/// The end of the year 9999. A later time has no time stamp.
pub(crate) const TIME_MAX_US: u64 = 253_402_300_799_000_000;
const YEAR_US: u64 = 365 * 86_400 * 1_000_000;

fn class(word: &str) -> Option<OperationClass> {
    match word {
        "read" => Some(OperationClass::Read),
        "write" => Some(OperationClass::Write),
        "list" => Some(OperationClass::List),
        _ => None,
    }
}

/// Microseconds since 1970 of a time stamp as the log writes it: `2026-11-29T12:00:00.000Z`, with any number of decimals.
pub(crate) fn parse_timestamp(text: &[u8]) -> Option<u64> {
    let digits = |from: usize, to: usize| {
        text.get(from..to)?.iter().try_fold(0_u64, |number, digit| {
            digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0'))
        })
    };
    let is = |at: usize, byte: u8| text.get(at) == Some(&byte);
    if !(is(4, b'-') && is(7, b'-') && is(10, b'T') && is(13, b':') && is(16, b':')) {
        return None;
    }
    let fraction = text.get(19..)?.strip_suffix(b"Z")?;
    let micros = match fraction.strip_prefix(b".") {
        None if fraction.is_empty() => 0,
        Some(decimals) if (1..=9).contains(&decimals.len()) && decimals.iter().all(u8::is_ascii_digit) => {
            let shown = decimals.iter().chain(std::iter::repeat(&b'0')).take(6);
            shown.fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
        }
        _ => return None,
    };
    let (year, month, day) = (digits(0, 4)?, digits(5, 7)?, digits(8, 10)?);
    let (hour, minute, second) = (digits(11, 13)?, digits(14, 16)?, digits(17, 19)?);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some(seconds * 1_000_000 + micros)
}

/// Days from 1970-01-01 in the Gregorian calendar. The year begins in March, so that the leap day is its last.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let in_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + in_year - 719_468
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;
    use time::format_description::well_known::Rfc3339;

    use super::*;

    /// A time stamp equals what a library reads.
    #[test]
    fn time_stamps_are_read_exactly() {
        for text in [
            "1970-01-01T00:00:00.000Z",
            "2000-02-29T23:59:59.999Z",
            "2026-11-21T07:11:32.321Z",
            "2100-03-01T00:00:00Z",
            "2026-12-31T23:59:59.123456Z",
            "9999-12-31T23:59:59.1Z",
        ] {
            let expected = OffsetDateTime::parse(text, &Rfc3339).unwrap().unix_timestamp_nanos() / 1000;
            assert_eq!(parse_timestamp(text.as_bytes()).map(i128::from), Some(expected), "{text}");
        }
        for text in [
            "",
            "2026",
            "2026-11-21 07:11:32Z",
            "2026-13-01T00:00:00Z",
            "2026-11-21T07:11:32",
            "2026-11-21T07:11:32.Z",
        ] {
            assert_eq!(parse_timestamp(text.as_bytes()), None, "{text}");
        }
    }
}
