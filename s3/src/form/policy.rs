//! The policy of a form (A1): its expiration, and the conditions on the form's fields.
//!
//! Conditions are checked after `${filename}` was replaced. A field without a condition is rejected, so the holder of a signed policy can
//! add no field. As in S3, exempt are the policy, the fields of its signature (SigV4 or SigV2), the file, and names that start with
//! `x-ignore-`.
//!
//! Source: S3 "POST Policy" (Browser-Based Uploads Using POST).

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::form::FormRejection;
use crate::form::fields::FormFields;

/// A parsed policy.
#[derive(Debug, PartialEq, Eq)]
pub struct PostPolicy {
    expires: SystemTime,
    conditions: Vec<Condition>,
    /// The minimum and maximum size of the file in bytes.
    range: Option<(u64, u64)>,
}

#[derive(Debug, PartialEq, Eq)]
struct Condition {
    /// The field's name in lower case.
    field: String,
    is_prefix: bool,
    value: String,
}

fn invalid(what: &str) -> FormRejection {
    FormRejection::InvalidPolicy(what.to_owned())
}

impl PostPolicy {
    /// Reads the `policy` field.
    pub fn parse(encoded: &str) -> Result<Self, FormRejection> {
        let without_blanks: String = encoded.split_ascii_whitespace().collect();
        let bytes = STANDARD.decode(without_blanks).map_err(|_| invalid("it is not base64"))?;
        let document: Value = serde_json::from_slice(&bytes).map_err(|_| invalid("Invalid JSON"))?;
        let expiration = document.get("expiration").and_then(Value::as_str);
        let expires = expiration.and_then(parse_iso8601).ok_or(invalid(
            "its expiration is missing or not an ISO 8601 date in UTC, such as 2007-12-01T12:00:00.000Z",
        ))?;
        let listed = document.get("conditions").and_then(Value::as_array);
        let mut policy = Self { expires, conditions: Vec::new(), range: None };
        for condition in listed.ok_or(invalid("its conditions are missing"))? {
            policy.add_condition(condition)?;
        }
        Ok(policy)
    }

    fn add_condition(&mut self, condition: &Value) -> Result<(), FormRejection> {
        match condition {
            Value::Object(pairs) => {
                let mut pairs = pairs.iter();
                let (Some((name, Value::String(value))), None) = (pairs.next(), pairs.next()) else {
                    return Err(invalid(
                        "a simple condition must have exactly one property with a string value",
                    ));
                };
                self.conditions.push(Condition {
                    field: name.to_ascii_lowercase(),
                    is_prefix: false,
                    value: value.clone(),
                });
            }
            Value::Array(parts) => self.add_triple(parts)?,
            _ => return Err(invalid("a condition is neither an object nor a list")),
        }
        Ok(())
    }

    fn add_triple(&mut self, parts: &[Value]) -> Result<(), FormRejection> {
        let [Value::String(kind), first, second] = parts else {
            return Err(invalid("a condition must have an operator and two arguments"));
        };
        if kind.eq_ignore_ascii_case("content-length-range") {
            let range = parse_number(first).zip(parse_number(second)).filter(|(least, most)| least <= most);
            let (least, most) =
                range.ok_or(invalid("a content-length-range is not a minimum and a maximum"))?;
            let (at_least, at_most) = self.range.unwrap_or((0, u64::MAX));
            self.range = Some((least.max(at_least), most.min(at_most)));
            return Ok(());
        }
        let is_prefix = kind.eq_ignore_ascii_case("starts-with");
        if !is_prefix && !kind.eq_ignore_ascii_case("eq") {
            return Err(invalid("a condition's operator must be eq, starts-with or content-length-range"));
        }
        let (Some(field), Value::String(value)) =
            (first.as_str().and_then(|name| name.strip_prefix('$')), second)
        else {
            return Err(invalid("a condition must compare a $field with a string"));
        };
        let field = field.to_ascii_lowercase();
        self.conditions.push(Condition { field, is_prefix, value: value.clone() });
        Ok(())
    }

    /// Checks the fields of a form. `bucket` is the client's name of the bucket.
    pub fn check(&self, fields: &FormFields, bucket: &str, now: SystemTime) -> Result<(), FormRejection> {
        if self.expires <= now {
            return Err(FormRejection::PolicyDenied("Policy expired.".to_owned()));
        }
        for condition in &self.conditions {
            let value = if condition.field == "bucket" { Some(bucket) } else { fields.get(&condition.field) };
            if !value.is_some_and(|value| condition.matches(value)) {
                let kind = if condition.is_prefix { "starts-with" } else { "eq" };
                let Condition { field, value, .. } = condition;
                let message = format!("Policy Condition failed: [\"{kind}\", \"${field}\", \"{value}\"]");
                return Err(FormRejection::PolicyDenied(message));
            }
        }
        let is_exempt = |name: &&str| {
            matches!(*name, "policy" | "x-amz-signature" | "file" | "awsaccesskeyid" | "signature")
                || name.starts_with("x-ignore-")
        };
        let is_named = |name: &&str| self.conditions.iter().any(|condition| condition.field == *name);
        match fields.names().find(|name| !is_exempt(name) && !is_named(name)) {
            Some(name) => Err(FormRejection::PolicyDenied(format!("Extra input fields: {name}"))),
            None if !is_named(&"bucket") => {
                // The policy must name the bucket, even if the form has no such field. Otherwise the form would be valid in every bucket.
                Err(FormRejection::PolicyDenied("Extra input fields: bucket".to_owned()))
            }
            None if fields.get("bucket").is_some_and(|named| named != bucket) => {
                Err(FormRejection::PolicyDenied("the field `bucket` names another bucket".to_owned()))
            }
            None => Ok(()),
        }
    }

    /// The time until the policy expires.
    pub fn remaining_validity(&self, now: SystemTime) -> Duration {
        self.expires.duration_since(now).unwrap_or_default()
    }

    /// Checks the size of the file.
    pub fn check_length(&self, bytes: u64) -> Result<(), FormRejection> {
        match self.range {
            Some((least, _)) if bytes < least => Err(FormRejection::TooSmall { bytes, least }),
            Some((_, most)) if bytes > most => Err(FormRejection::TooLarge { bytes, most }),
            _ => Ok(()),
        }
    }
}

impl Condition {
    fn matches(&self, value: &str) -> bool {
        match (self.is_prefix, self.field.as_str()) {
            (false, _) => value == self.value,
            // S3 allows a list; each of its items must have the prefix.
            (true, "content-type") => value.split(',').all(|part| part.trim_start().starts_with(&self.value)),
            (true, _) => value.starts_with(&self.value),
        }
    }
}

fn parse_number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// Parses a date in S3's format: ISO 8601 in UTC with `T` and `Z`, such as `2007-12-01T12:00:00.000Z`. RFC 3339 also allows a space, lower
/// case and offsets; S3 rejects them.
fn parse_iso8601(text: &str) -> Option<SystemTime> {
    if text.as_bytes().get(10) != Some(&b'T') || !text.ends_with('Z') {
        return None;
    }
    OffsetDateTime::parse(text, &Rfc3339).ok().map(SystemTime::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(conditions: &str) -> Result<PostPolicy, FormRejection> {
        let text = format!("{{\"expiration\": \"2007-12-01T12:00:00.000Z\", \"conditions\": {conditions}}}");
        PostPolicy::parse(&STANDARD.encode(text))
    }

    fn before_expiration() -> SystemTime {
        parse_iso8601("2007-12-01T11:59:59Z").unwrap()
    }

    fn check(conditions: &str, pairs: &[(&str, &str)]) -> Result<(), FormRejection> {
        let sent = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        policy(conditions)?.check(&FormFields::from_parts(sent, "f").unwrap(), "photos", before_expiration())
    }

    /// A1
    #[test]
    fn every_kind_of_condition_is_checked() {
        let conditions = r#"[{"bucket": "photos"}, ["starts-with", "$key", "user/eric/"], {"acl": "public-read"},
            ["eq", "$x-amz-meta-UUID", "14365123651274"], ["starts-with", "$Content-Type", "image/"],
            ["starts-with", "$x-amz-meta-tag", ""], ["content-length-range", 1, "1048576"]]"#;
        let right = [
            ("key", "user/eric/${filename}"),
            ("acl", "public-read"),
            ("X-Amz-Meta-Uuid", "14365123651274"),
            ("Content-Type", "image/jpeg, image/png"),
            ("x-amz-meta-tag", "any"),
            ("x-ignore-this", "x"),
            ("policy", "p"),
            ("x-amz-signature", "s"),
        ];
        assert_eq!(check(conditions, &right), Ok(()));
        for (at, value) in
            [(0, "user/erica/x"), (1, "private"), (2, "1436512365127"), (3, "image/png,text/html"), (3, "x")]
        {
            let mut wrong = right;
            wrong[at].1 = value;
            let result = check(conditions, &wrong);
            assert!(
                matches!(result, Err(FormRejection::PolicyDenied(text)) if text.starts_with("Policy Condition failed"))
            );
        }
        let missing = check(conditions, &right[..3]);
        assert!(matches!(missing, Err(FormRejection::PolicyDenied(_))));
        let more: Vec<_> = right.into_iter().chain([("submit", "Upload")]).collect();
        assert_eq!(
            check(conditions, &more),
            Err(FormRejection::PolicyDenied("Extra input fields: submit".to_owned()))
        );
        let elsewhere = conditions.replace("photos", "other");
        assert!(matches!(check(&elsewhere, &right), Err(FormRejection::PolicyDenied(_))));
    }

    /// A1
    #[test]
    fn a_policy_expires_and_limits_the_file() {
        let policy =
            policy(r#"[{"bucket": "b"}, ["content-length-range", 5, 20], ["content-length-range", 0, 10]]"#)
                .unwrap();
        let none = FormFields::from_parts(Vec::new(), "").unwrap();
        let end = parse_iso8601("2007-12-01T12:00:00Z").unwrap();
        assert_eq!(
            policy.check(&none, "b", end),
            Err(FormRejection::PolicyDenied("Policy expired.".to_owned()))
        );
        assert_eq!(policy.check(&none, "b", before_expiration()), Ok(()));
        assert_eq!(policy.check_length(4), Err(FormRejection::TooSmall { bytes: 4, least: 5 }));
        assert_eq!((policy.check_length(5), policy.check_length(10)), (Ok(()), Ok(())));
        assert_eq!(policy.check_length(11), Err(FormRejection::TooLarge { bytes: 11, most: 10 }));
    }

    /// A1
    #[test]
    fn malformed_policies_are_rejected() {
        for text in [
            "",
            "[]",
            "{",
            r#"{"conditions": []}"#,
            r#"{"expiration": "tomorrow", "conditions": []}"#,
            r#"{"expiration": "2099-11-29 12:00:00.1+00:00", "conditions": []}"#,
            r#"{"expiration": "2099-11-29 12:00:00Z", "conditions": []}"#,
            r#"{"expiration": "2099-11-29T12:00:00+00:00", "conditions": []}"#,
            r#"{"expiration": "2099-11-29T12:00:00-00:00", "conditions": []}"#,
            r#"{"expiration": "2099-11-29t12:00:00z", "conditions": []}"#,
            r#"{"expiration": "2099-11-29T12:00:00", "conditions": []}"#,
            r#"{"expiration": "2099-11-29T12:00Z", "conditions": []}"#,
            r#"{"expiration": "2099-11-29", "conditions": []}"#,
            r#"{"expiration": " 2099-11-29T12:00:00Z", "conditions": []}"#,
            r#"{"expiration": "2099-11-29T12:00:00.Z", "conditions": []}"#,
            r#"{"expiration": "2099-13-29T12:00:00Z", "conditions": []}"#,
            r#"{"expiration": 4099680000, "conditions": []}"#,
            r#"{"expiration": "2007-12-01T12:00:00Z"}"#,
        ] {
            let result = PostPolicy::parse(&STANDARD.encode(text));
            assert!(matches!(result, Err(FormRejection::InvalidPolicy(_))), "{text}");
        }
        assert!(matches!(PostPolicy::parse("%%"), Err(FormRejection::InvalidPolicy(_))));
        for conditions in [
            "{}",
            r#"["eq"]"#,
            r#"[["eq", "$key"]]"#,
            r#"[["eq", "key", "v"]]"#,
            r#"[["eq", "$key", 7]]"#,
            r#"[["like", "$key", "v"]]"#,
            r#"[{"acl": "a", "key": "b"}]"#,
            r#"[{"acl": 7}]"#,
            r#"[{}]"#,
            r#"[["content-length-range", -1, 5]]"#,
            r#"[["content-length-range", 6, 5]]"#,
        ] {
            assert!(matches!(policy(conditions), Err(FormRejection::InvalidPolicy(_))), "{conditions}");
        }
    }
}
