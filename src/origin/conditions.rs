//! Conditional requests (RFC 9110, 13.2.2), in the order in which S3 evaluates the conditions, and conditional writes.

use http::header::{HeaderMap, HeaderName, IF_MATCH, IF_NONE_MATCH};
use s3s::dto::{ETag, ETagCondition, Timestamp};
use s3s::{S3Result, s3_error};
use time::OffsetDateTime;

use super::record::Object;

/// The four conditions of a read. Dates are compared in seconds, the resolution of HTTP dates.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Conditions<'a> {
    pub(super) if_match: Option<&'a ETagCondition>,
    pub(super) if_none_match: Option<&'a ETagCondition>,
    pub(super) if_modified_since: Option<&'a Timestamp>,
    pub(super) if_unmodified_since: Option<&'a Timestamp>,
}

/// Result of a conditional read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConditionOutcome {
    Proceed,
    /// 304 for GET and HEAD, 412 for the source of a copy.
    NotModified,
    PreconditionFailed,
}

impl Conditions<'_> {
    pub(super) fn evaluate(&self, object: &Object) -> ConditionOutcome {
        let etag = object.etag();
        let modified = seconds(&object.info.modified);
        let is_current = match (self.if_match, self.if_unmodified_since) {
            (Some(condition), _) => matches(condition, &etag, ETag::strong_cmp),
            (None, Some(date)) => modified <= seconds(date),
            (None, None) => true,
        };
        if !is_current {
            return ConditionOutcome::PreconditionFailed;
        }
        let is_known = match (self.if_none_match, self.if_modified_since) {
            (Some(condition), _) => matches(condition, &etag, ETag::weak_cmp),
            (None, Some(date)) => modified <= seconds(date),
            (None, None) => false,
        };
        if is_known { ConditionOutcome::NotModified } else { ConditionOutcome::Proceed }
    }
}

/// The conditions of a write. They are evaluated under the lock of the write.
#[derive(Debug, Clone, Default)]
pub(super) struct WriteConditions {
    if_match: Option<ETagCondition>,
    must_be_absent: bool,
}

impl WriteConditions {
    /// S3 accepts only `*` for `If-None-Match` of a write.
    pub(super) fn new(
        if_match: Option<ETagCondition>,
        if_none_match: Option<ETagCondition>,
    ) -> S3Result<Self> {
        if matches!(if_none_match, Some(ETagCondition::ETag(_))) {
            return Err(s3_error!(NotImplemented, "If-None-Match of a write must be *"));
        }
        Ok(Self { if_match, must_be_absent: if_none_match.is_some() })
    }

    /// The conditions in the headers `If-Match` and `If-None-Match`.
    pub(super) fn of_headers(headers: &HeaderMap) -> S3Result<Self> {
        let condition = |name: HeaderName| -> S3Result<Option<ETagCondition>> {
            let mut values = headers.get_all(&name).iter();
            let Some(value) = values.next() else {
                return Ok(None);
            };
            let parsed = ETagCondition::parse_http_header(value.as_bytes()).ok();
            let parsed = parsed.filter(|_| values.next().is_none());
            let parsed = parsed.ok_or_else(|| s3_error!(InvalidArgument, "{name} must be one ETag, or *"))?;
            Ok(Some(parsed))
        };
        Self::new(condition(IF_MATCH)?, condition(IF_NONE_MATCH)?)
    }

    pub(super) fn check(&self, current: Option<&Object>) -> S3Result<()> {
        if self.must_be_absent && current.is_some() {
            return Err(s3_error!(PreconditionFailed, "the key exists"));
        }
        match (&self.if_match, current) {
            (None, _) => Ok(()),
            (Some(_), None) => Err(s3_error!(NoSuchKey, "the key of a conditional write does not exist")),
            (Some(condition), Some(object)) if matches(condition, &object.etag(), ETag::strong_cmp) => Ok(()),
            (Some(_), Some(_)) => Err(s3_error!(PreconditionFailed, "the object has another ETag")),
        }
    }
}

fn matches(condition: &ETagCondition, etag: &ETag, compare: impl Fn(&ETag, &ETag) -> bool) -> bool {
    condition.as_etag().is_none_or(|expected| compare(expected, etag))
}

/// Seconds since 1970.
pub(super) fn seconds(time: &Timestamp) -> i64 {
    OffsetDateTime::from(time.clone()).unix_timestamp()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::origin::test_objects;

    fn at(milliseconds: u64) -> Timestamp {
        Timestamp::from(UNIX_EPOCH + Duration::from_millis(milliseconds))
    }

    fn object() -> Object {
        let mut object = test_objects::object("one");
        object.info.modified = at(10_500);
        object
    }

    fn etag(text: &str) -> ETagCondition {
        text.parse().unwrap()
    }

    /// I2, E1: each condition alone, and which of two decides
    #[test]
    fn conditions_are_evaluated_in_their_order() {
        use ConditionOutcome::{NotModified, PreconditionFailed, Proceed};
        let (one, weak, two, any) = (etag("\"one\""), etag("W/\"one\""), etag("\"two\""), etag("*"));
        let (before, same, after) = (at(9_000), at(10_000), at(11_000));
        let object = object();
        for (if_match, if_none_match, if_modified_since, if_unmodified_since, expected) in [
            (None, None, None, None, Proceed),
            (Some(&one), None, None, None, Proceed),
            (Some(&any), None, None, None, Proceed),
            (Some(&two), None, None, None, PreconditionFailed),
            (Some(&weak), None, None, None, PreconditionFailed),
            (None, Some(&one), None, None, NotModified),
            (None, Some(&weak), None, None, NotModified),
            (None, Some(&any), None, None, NotModified),
            (None, Some(&two), None, None, Proceed),
            (None, None, Some(&before), None, Proceed),
            (None, None, Some(&same), None, NotModified),
            (None, None, Some(&after), None, NotModified),
            (None, None, None, Some(&before), PreconditionFailed),
            (None, None, None, Some(&same), Proceed),
            // the ETag takes precedence over a date
            (Some(&one), None, None, Some(&before), Proceed),
            (None, Some(&two), Some(&after), None, Proceed),
            (None, Some(&one), Some(&before), None, NotModified),
            // a failed If-Match is 412 in every case
            (Some(&two), Some(&one), None, None, PreconditionFailed),
            (Some(&one), Some(&one), None, None, NotModified),
        ] {
            let conditions = Conditions { if_match, if_none_match, if_modified_since, if_unmodified_since };
            assert_eq!(conditions.evaluate(&object), expected, "{conditions:?}");
        }
    }

    #[test]
    fn conditions_of_writes_are_evaluated() {
        let object = object();
        let check = |if_match: Option<&str>, if_none_match: Option<&str>, current: Option<&Object>| {
            let conditions = WriteConditions::new(if_match.map(etag), if_none_match.map(etag));
            let outcome = conditions.and_then(|conditions| conditions.check(current));
            outcome.map_or_else(|error| error.code().as_str().to_owned(), |()| "ok".to_owned())
        };
        assert_eq!(check(None, None, Some(&object)), "ok");
        assert_eq!(check(None, Some("*"), None), "ok");
        assert_eq!(check(None, Some("*"), Some(&object)), "PreconditionFailed");
        assert_eq!(check(None, Some("\"one\""), None), "NotImplemented");
        assert_eq!(check(Some("\"one\""), None, Some(&object)), "ok");
        assert_eq!(check(Some("*"), None, Some(&object)), "ok");
        assert_eq!(check(Some("\"two\""), None, Some(&object)), "PreconditionFailed");
        assert_eq!(check(Some("*"), None, None), "NoSuchKey");
    }
}
