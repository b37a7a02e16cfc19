//! Timestamps (RFC 3339).

use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{ValueError, ValueErrors, ValueType, quoted};
use crate::setting::Raw;

/// A timestamp with a precision of a second, 1970 or later.
pub(crate) struct Timestamp;

impl ValueType for Timestamp {
    type Value = SystemTime;

    fn parse(&self, raw: &Raw) -> Result<SystemTime, ValueErrors> {
        let text = raw.text()?.trim();
        let seconds = OffsetDateTime::parse(text, &Rfc3339).ok().map(OffsetDateTime::unix_timestamp);
        let since = seconds.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
        since.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since)).ok_or_else(|| {
            let error = ValueError::new(format!("{} is not a date and time of RFC 3339", quoted(text)));
            error
                .with_hint("use a timestamp such as 2027-01-31T18:00:00Z or 2027-01-31T19:00:00+01:00")
                .into()
        })
    }

    fn accepts(&self) -> String {
        "date and time of RFC 3339, such as 2027-01-31T18:00:00Z".to_owned()
    }

    fn to_toml(&self, value: &SystemTime) -> String {
        let at = OffsetDateTime::from(*value).format(&Rfc3339).unwrap_or_default();
        format!("\"{at}\"")
    }
}
