//! Validates the claims of a verified token, and converts the policy claims to a policy.
//!
//! Issuer, audience and expiry are required (RFC 7519 leaves them optional); `nbf` is checked if it is present. Each of the three policy
//! claims must be present and be a list of strings or one string, so a missing claim never grants access. An empty list allows nothing, an
//! empty prefix allows all keys. Unknown methods are ignored.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};
use tidegate_actors::{KeyFingerprint, VerifiedToken};
use tidegate_config::{Access, JwtClaims, JwtConfig, Pattern, PolicyConfig};

use super::JwtRejection;

/// Longer subjects are truncated for the log.
const SUBJECT_CHARS_MAX: usize = 128;
/// Later dates are clamped to this one: the end of the year 9999.
const SECONDS_MAX: f64 = 253_402_300_799.0;

/// Validates the claims at the time `now`.
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

/// A date in seconds since 1970, possibly with a fraction (RFC 7519, `NumericDate`).
fn numeric_date(claims: &Map<String, Value>, name: &'static str) -> Result<Option<SystemTime>, JwtRejection> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_f64().ok_or(JwtRejection::Claim(name))?;
    Ok(Some(UNIX_EPOCH + Duration::from_secs_f64(seconds.clamp(0.0, SECONDS_MAX))))
}

/// A list of strings, or one string.
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
        // In a policy an empty list of prefixes allows all keys; in a token it allows none.
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
