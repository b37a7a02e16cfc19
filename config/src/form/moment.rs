//! A moment, with its place in the world: RFC 3339.

use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Fault, Faults, Form, shown};
use crate::setting::Raw;

/// A moment to the second, since 1970.
pub(crate) struct Moment;

impl Form for Moment {
    type Value = SystemTime;

    fn parse(&self, raw: &Raw) -> Result<SystemTime, Faults> {
        let text = raw.text()?.trim();
        let seconds = OffsetDateTime::parse(text, &Rfc3339).ok().map(OffsetDateTime::unix_timestamp);
        let since = seconds.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
        since.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since)).ok_or_else(|| {
            let fault = Fault::new(format!("{} is no date and time of RFC 3339", shown(text)));
            fault.hinting("such as 2027-01-31T18:00:00Z or 2027-01-31T19:00:00+01:00").into()
        })
    }

    fn accepts(&self) -> String {
        "date and time of RFC 3339, such as 2027-01-31T18:00:00Z".to_owned()
    }

    fn show(&self, value: &SystemTime) -> String {
        let at = OffsetDateTime::from(*value).format(&Rfc3339).unwrap_or_default();
        format!("\"{at}\"")
    }
}
