//! What a verified token says: for whom and until when it holds, and what it allows.
//!
//! Issuer, audience and expiry must be there (RFC 7519 leaves them optional); `nbf` is heeded where it is there. What a token allows
//! becomes a policy like any other. Each of its three claims must be there and be a list of text, or one text: nothing is
//! allowed because somebody forgot to say it. An empty list allows nothing, an empty prefix all keys. Words for methods that
//! are not known here allow nothing and cost nothing.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};
use tidegate_actors::{KeyFingerprint, VerifiedToken};
use tidegate_config::{Access, JwtClaims, JwtConfig, Pattern, PolicyConfig};

use super::JwtRejection;

/// The longest subject that is kept for the log.
const SUBJECT_CHARS_MAX: usize = 128;
/// Beyond it, moments are not told apart: the year 9999.
const SECONDS_MAX: f64 = 253_402_300_799.0;

/// Who brings a token with these claims, at this moment.
pub(super) fn validate(
    claims: &Map<String, Value>,
    verified_by: KeyFingerprint,
    config: &JwtConfig,
    now: SystemTime,
) -> Result<VerifiedToken, JwtRejection> {
    if claims.get("iss").and_then(Value::as_str).ok_or(JwtRejection::Claim("iss"))? != config.issuer {
        return Err(JwtRejection::Issuer);
    }
    let audience = string_list(claims, "aud").ok_or(JwtRejection::Claim("aud"))?;
    if !audience.iter().any(|one| config.audience.iter().any(|known| known == one)) {
        return Err(JwtRejection::Audience);
    }
    let expires = numeric_date(claims, "exp")?.ok_or(JwtRejection::Claim("exp"))? + config.leeway;
    if now >= expires {
        return Err(JwtRejection::Expired);
    }
    if numeric_date(claims, "nbf")?.is_some_and(|begins| now + config.leeway < begins) {
        return Err(JwtRejection::NotYetValid);
    }
    let subject = claims.get("sub").and_then(Value::as_str);
    let subject = subject.map(|subject| subject.chars().take(SUBJECT_CHARS_MAX).collect());
    Ok(VerifiedToken { subject, policy: policy_of_claims(claims, &config.claims)?, expires, verified_by })
}

/// Seconds since 1970, whole or not (RFC 7519, `NumericDate`).
fn numeric_date(claims: &Map<String, Value>, name: &'static str) -> Result<Option<SystemTime>, JwtRejection> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_f64().ok_or(JwtRejection::Claim(name))?;
    Ok(Some(UNIX_EPOCH + Duration::from_secs_f64(seconds.clamp(0.0, SECONDS_MAX))))
}

/// A list of text, or one text.
fn string_list<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<Vec<&'a str>> {
    match claims.get(name)? {
        Value::String(text) => Some(vec![text]),
        Value::Array(values) => values.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

fn policy_of_claims(claims: &Map<String, Value>, names: &JwtClaims) -> Result<PolicyConfig, JwtRejection> {
    let list =
        |name: &String| string_list(claims, name).ok_or_else(|| JwtRejection::PolicyClaim(name.clone()));
    let (buckets, prefixes, methods) = (list(&names.buckets)?, list(&names.prefixes)?, list(&names.methods)?);
    if prefixes.is_empty() {
        // In a policy, no prefixes are all keys; in a token they are none.
        return Ok(PolicyConfig::default());
    }
    let patterns = buckets.into_iter().map(|name| Pattern::parse(name).ok());
    let all = prefixes.contains(&"");
    Ok(PolicyConfig {
        buckets: patterns
            .collect::<Option<_>>()
            .ok_or_else(|| JwtRejection::PolicyClaim(names.buckets.clone()))?,
        prefixes: prefixes.into_iter().filter(|_| !all).map(str::to_owned).collect(),
        methods: methods.into_iter().filter_map(Access::parse).collect(),
    })
}
