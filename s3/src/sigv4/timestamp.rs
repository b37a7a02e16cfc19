//! The time of a signature, in the format of strings to sign: `20130524T000000Z`.

use std::time::{Duration, SystemTime};

use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};

/// A time with a resolution of a second, and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timestamp {
    text: String,
    /// Seconds since 1970.
    seconds: u64,
}

impl Timestamp {
    /// Reads `20130524T000000Z`.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 16 || digits[8] != b'T' || digits[15] != b'Z' {
            return None;
        }
        let number = |from: usize, to: usize| -> Option<u16> {
            let part = text.get(from..to)?;
            part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())?
        };
        let small = |from: usize| number(from, from + 2).and_then(|value| u8::try_from(value).ok());
        let month = Month::try_from(small(4)?).ok()?;
        let date = Date::from_calendar_date(number(0, 4)?.into(), month, small(6)?).ok()?;
        let time = Time::from_hms(small(9)?, small(11)?, small(13)?).ok()?;
        let seconds = PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp();
        Some(Self { text: text.to_owned(), seconds: seconds.try_into().ok()? })
    }

    /// Rounds `time` down to the second.
    pub(crate) fn from_time(time: SystemTime) -> Self {
        let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let at = i64::try_from(seconds).ok().and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok());
        let at = at.unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let text = format!(
            "{:04}{:02}{:02}T{:02}{:02}{:02}Z",
            at.year(),
            u8::from(at.month()),
            at.day(),
            at.hour(),
            at.minute(),
            at.second()
        );
        Self { text, seconds }
    }

    /// The time in ISO 8601's extended format, as error documents show it: `2013-05-24T00:00:00Z`.
    pub(crate) fn to_iso8601(&self) -> String {
        let part = |from: usize, to: usize| self.text.get(from..to).unwrap_or_default();
        format!("{}-{}-{}:{}:{}", part(0, 4), part(4, 6), part(6, 11), part(11, 13), part(13, 16))
    }

    /// The text, such as `20130524T000000Z`.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The day in the format of scopes: `20130524`.
    pub(crate) fn date(&self) -> &str {
        self.text.get(..8).unwrap_or_default()
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }

    /// The time from this timestamp to `now`; zero if it is after `now`.
    pub(crate) fn age(&self, now: SystemTime) -> Duration {
        now.duration_since(self.to_time()).unwrap_or_default()
    }

    /// The time from `now` to this timestamp; zero if it is before `now`.
    pub(crate) fn lead(&self, now: SystemTime) -> Duration {
        self.to_time().duration_since(now).unwrap_or_default()
    }

    /// The time.
    pub fn to_time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_survives_the_round_trip() {
        for text in ["19700101T000000Z", "20130524T000000Z", "20240229T235959Z"] {
            let read = Timestamp::parse(text).unwrap();
            assert_eq!(Timestamp::from_time(read.to_time()), read);
        }
        let read = Timestamp::parse("20130524T010203Z").unwrap();
        assert_eq!((read.date(), read.to_iso8601().as_str()), ("20130524", "2013-05-24T01:02:03Z"));
    }

    #[test]
    fn malformed_timestamps_are_rejected() {
        for bad in [
            "",
            "20130524",
            "20130524T000000",
            "20130524t000000Z",
            "2013-05-24T00:00:00Z",
            "20131324T000000Z",
            "20130230T000000Z",
            "20130524T250000Z",
            "2013052+T000000Z",
            "20130524T0000é0Z",
            "19600101T000000Z",
        ] {
            assert_eq!(Timestamp::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn age_or_lead_is_zero() {
        let at = Timestamp::parse("20130524T000000Z").unwrap();
        let later = at.to_time() + Duration::from_secs(5);
        assert_eq!((at.age(later), at.lead(later)), (Duration::from_secs(5), Duration::ZERO));
        let sooner = at.to_time() - Duration::from_secs(5);
        assert_eq!((at.age(sooner), at.lead(sooner)), (Duration::ZERO, Duration::from_secs(5)));
    }
}
