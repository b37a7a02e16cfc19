//! The parameters of queries about decisions. Every fault names its parameter and what it accepts.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use thiserror::Error;
use tidegate_actors::clock;
use tidegate_s3::sigv4::query::{decoded_text, pairs, value_of};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::decisions::KeptNames;
use crate::decisions::query::{ClientFilter, DecisionQuery};
use crate::http::request_id;

/// Decisions in a reply without `limit`.
const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1000;
/// The longest value. Longer ones match nothing that is recorded.
const VALUE_BYTES_MAX: usize = 256;

pub(super) const OF_DECISIONS: [&str; 6] = ["request_id", "reason", "bucket", "client", "since", "limit"];
pub(super) const OF_EXPLAIN: [&str; 1] = ["request_id"];

/// A parameter that is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(in crate::admin) enum InvalidParameter {
    #[error("there is no parameter `{name}`; the parameters are {known}")]
    Unknown { name: String, known: String },
    #[error("there is no parameter `{0}`; the path accepts none")]
    NoneAccepted(String),
    #[error("the parameter `{0}` occurs twice; send it once")]
    Repeated(&'static str),
    #[error("the parameter `{0}` is missing")]
    Missing(&'static str),
    #[error("the parameter `{name}` is {fault}")]
    Invalid { name: &'static str, fault: String },
}

pub(in crate::admin) fn invalid(name: &'static str, fault: impl Into<String>) -> InvalidParameter {
    InvalidParameter::Invalid { name, fault: fault.into() }
}

/// The decoded parameters of a query.
#[derive(Debug)]
pub(in crate::admin) struct Parameters(BTreeMap<&'static str, String>);

impl Parameters {
    pub(in crate::admin) fn parse(query: &str, known: &[&'static str]) -> Result<Self, InvalidParameter> {
        let mut values = BTreeMap::new();
        for pair in pairs(query).filter(|pair| !pair.is_empty()) {
            let given = decoded_text(pair.split('=').next().unwrap_or_default());
            let Some(name) = known.iter().find(|name| **name == given) else {
                let name = given.chars().take(64).collect();
                return Err(match known {
                    [] => InvalidParameter::NoneAccepted(name),
                    _ => InvalidParameter::Unknown { name, known: known.join(", ") },
                });
            };
            let value = decoded_text(value_of(pair)).into_owned();
            if value.is_empty() {
                return Err(invalid(name, "empty; give it a value or leave it out"));
            }
            if value.len() > VALUE_BYTES_MAX {
                return Err(invalid(name, format!("longer than {VALUE_BYTES_MAX} bytes")));
            }
            if values.insert(*name, value).is_some() {
                return Err(InvalidParameter::Repeated(name));
            }
        }
        Ok(Self(values))
    }

    /// The value of a parameter; none if the query lacks it.
    pub(in crate::admin) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn request_id(&self) -> Result<Option<String>, InvalidParameter> {
        match self.0.get("request_id") {
            Some(id) if !request_id::is_valid(id.as_bytes()) => Err(invalid(
                "request_id",
                "no request ID: an ID has 1 to 128 letters, digits, `-`, `_` and `.`",
            )),
            id => Ok(id.cloned()),
        }
    }

    pub(super) fn required_request_id(&self) -> Result<String, InvalidParameter> {
        self.request_id()?.ok_or(InvalidParameter::Missing("request_id"))
    }

    pub(super) fn decision_query(&self, names: &KeptNames) -> Result<DecisionQuery, InvalidParameter> {
        let is_reason = |text: &str| {
            text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        };
        let wanted = self.0.get("reason").cloned();
        if wanted.as_deref().is_some_and(|reason| !is_reason(reason)) {
            return Err(invalid("reason", "no reason: a reason has lower-case letters, digits and `_`"));
        }
        let buckets = self.0.get("bucket").map(|name| names.find_buckets(name));
        if buckets.as_ref().is_some_and(Vec::is_empty) {
            return Err(invalid("bucket", "not the name of a section of `buckets`"));
        }
        let client = self.0.get("client").map(|client| match client.parse::<IpAddr>() {
            Ok(address) => ClientFilter::Address(address.to_canonical()),
            Err(_) => ClientFilter::Name(client.clone()),
        });
        let since = self.0.get("since").map(|text| parse_since(text, clock::wall())).transpose()?;
        let limit = match self.0.get("limit").map(|text| text.parse::<usize>()) {
            None => LIMIT_DEFAULT,
            Some(Ok(limit)) if (1..=LIMIT_MAX).contains(&limit) => limit,
            Some(_) => return Err(invalid("limit", format!("not a whole number from 1 to {LIMIT_MAX}"))),
        };
        Ok(DecisionQuery { request_id: self.request_id()?, reason: wanted, buckets, client, since, limit })
    }
}

/// A time of RFC 3339, or a length of time before now such as `90s`, `15m` or `2h`.
fn parse_since(text: &str, now: SystemTime) -> Result<SystemTime, InvalidParameter> {
    if let Ok(at) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(SystemTime::from(at));
    }
    let unit = match text.as_bytes().last() {
        Some(b's') => Some(1),
        Some(b'm') => Some(60),
        Some(b'h') => Some(3600),
        _ => None,
    };
    let digits = &text[..text.len().saturating_sub(usize::from(unit.is_some()))];
    let is_number =
        !digits.is_empty() && digits.len() <= 9 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let count: Option<u64> = if is_number { digits.parse().ok() } else { None };
    let ago = count.zip(unit).map(|(count, unit)| Duration::from_secs(count.saturating_mul(unit)));
    let epoch = SystemTime::UNIX_EPOCH;
    let at = ago.map(|ago| now.checked_sub(ago).map_or(epoch, |at| at.max(epoch)));
    at.ok_or_else(|| {
        invalid(
            "since",
            "neither a time of RFC 3339 such as 2027-01-31T18:00:00Z nor a length such as 90s, 15m or 2h",
        )
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidegate_actors::Ids;
    use tidegate_config::Config;

    use super::*;
    use crate::decisions::Names;

    fn query(text: &str) -> Result<DecisionQuery, String> {
        let names = KeptNames::new(Arc::new(Names::new(&Config::default(), &Ids::default())));
        let parsed = Parameters::parse(text, &OF_DECISIONS);
        parsed.and_then(|parameters| parameters.decision_query(&names)).map_err(|error| error.to_string())
    }

    /// O4: every parameter is optional, and values are percent-decoded
    #[test]
    fn a_query_selects_decisions() {
        let all = query("").unwrap();
        assert_eq!((all.limit, all.request_id, all.since), (LIMIT_DEFAULT, None, None));
        let one =
            query("request_id=a%2Db&reason=queue_full&client=%3A%3Affff%3A10.0.0.1&limit=1000").unwrap();
        assert_eq!(
            (one.request_id.as_deref(), one.reason.as_deref(), one.limit),
            (Some("a-b"), Some("queue_full"), 1000)
        );
        assert_eq!(one.client, Some(ClientFilter::Address("10.0.0.1".parse().unwrap())));
        assert_eq!(query("client=ann").unwrap().client, Some(ClientFilter::Name("ann".to_owned())));
    }

    /// O4: a malformed parameter is named
    #[test]
    fn a_malformed_parameter_is_named() {
        for (text, named) in [
            ("x=1", "`x`"),
            ("reason", "`reason` is empty"),
            ("reason=", "`reason` is empty"),
            ("reason=a&reason=b", "`reason` occurs twice"),
            ("reason=Queue", "`reason` is no reason"),
            ("request_id=a%20b", "`request_id` is no request ID"),
            ("bucket=nowhere", "`bucket` is not the name"),
            ("since=yesterday", "`since` is neither"),
            ("since=m", "`since` is neither"),
            ("since=-1m", "`since` is neither"),
            ("since=1%C3%A9", "`since` is neither"),
            ("limit=0", "`limit` is not a whole number"),
            ("limit=1001", "`limit` is not a whole number"),
            ("limit=99999999999999999999", "`limit` is not a whole number"),
        ] {
            let error = query(text).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
        let long = format!("client={}", "x".repeat(257));
        assert!(query(&long).unwrap_err().contains("`client` is longer than 256 bytes"));
    }

    /// O4: `since` is a time or a length of time before now
    #[test]
    fn since_is_a_time_or_a_length() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let seconds = |text: &str| {
            let at = parse_since(text, now).unwrap();
            at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
        };
        assert_eq!((seconds("90s"), seconds("15m"), seconds("2h")), (999_999_910, 999_999_100, 999_992_800));
        assert_eq!(seconds("2001-09-09T01:46:39Z"), 999_999_999);
        assert_eq!(seconds("999999999h"), 0, "before 1970");
    }
}
