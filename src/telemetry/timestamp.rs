//! The time stamp of a log line: RFC 3339 in UTC with milliseconds. The date is formatted once a second.

use std::fmt::Write as _;
use std::time::SystemTime;

use time::OffsetDateTime;

/// The last second that was formatted.
#[derive(Default)]
pub(crate) struct TimestampFormatter {
    second: u64,
    date: String,
}

impl TimestampFormatter {
    /// Appends `2026-11-29T12:00:00.000Z`.
    pub(crate) fn write(&mut self, now: SystemTime, line: &mut Vec<u8>) {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        if since.as_secs() != self.second || self.date.is_empty() {
            self.second = since.as_secs();
            self.date.clear();
            let at = OffsetDateTime::from(now);
            let _ = write!(
                self.date,
                "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
                at.year(),
                u8::from(at.month()),
                at.day(),
                at.hour(),
                at.minute(),
                at.second()
            );
        }
        // Written by hand: the formatter needs more time for these digits than all fields of a line need.
        let millis = since.subsec_millis();
        let digits = [millis / 100, millis / 10, millis].map(|digits| b'0' + (digits % 10) as u8);
        line.extend_from_slice(self.date.as_bytes());
        line.push(b'.');
        line.extend_from_slice(&digits);
        line.push(b'Z');
    }
}

/// A time in the format of a log line's time stamp.
pub(crate) fn rfc3339(at: SystemTime) -> String {
    let mut text = Vec::new();
    TimestampFormatter::default().write(at, &mut text);
    String::from_utf8(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// O2
    #[test]
    fn a_stamp_is_rfc_3339_in_utc() {
        let mut stamp = TimestampFormatter::default();
        let mut text = |millis| {
            let mut line = Vec::new();
            stamp.write(SystemTime::UNIX_EPOCH + Duration::from_millis(millis), &mut line);
            String::from_utf8(line).unwrap()
        };
        assert_eq!(text(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(text(1_782_734_399_045), "2026-06-29T11:59:59.045Z");
        assert_eq!(text(1_782_734_399_999), "2026-06-29T11:59:59.999Z");
        assert_eq!(text(1_782_734_400_001), "2026-06-29T12:00:00.001Z");
    }
}
