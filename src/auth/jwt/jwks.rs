//! Parses a JWK set (RFC 7517) and returns the keys that can verify tokens here.
//!
//! A set may have keys for other uses and of other types; they are skipped, as the RFC requires. Secrets (`oct`) are skipped too: a
//! published set must not have any, and a secret in the set would allow algorithm confusion.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;
use tidegate_config::JwtAlgorithm;

use super::key::{KeySet, VerificationKey};

/// The maximum number of keys in a set; issuers publish two or three.
const KEYS_MAX: usize = 100;

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    n: Option<String>,
    e: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// Parses a set. Returns the usable keys and the number of skipped keys.
pub(crate) fn parse(bytes: &[u8]) -> Result<(KeySet, usize), &'static str> {
    let set: JwkSet = serde_json::from_slice(bytes).map_err(|_| "not a JSON object with a list `keys`")?;
    let count = set.keys.len();
    if count > KEYS_MAX {
        return Err("more than 100 keys");
    }
    let keys: KeySet = set.keys.into_iter().filter_map(parse_key).collect();
    let skipped = count - keys.len();
    Ok((keys, skipped))
}

/// The key, if it verifies signatures with RS256 or ES256.
fn parse_key(value: Value) -> Option<VerificationKey> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    let verifies = jwk.usage.as_deref().is_none_or(|usage| usage == "sig")
        && jwk.key_ops.as_ref().is_none_or(|operations| operations.iter().any(|one| one == "verify"));
    let is_for = |algorithm: JwtAlgorithm| jwk.alg.as_deref().is_none_or(|alg| alg == algorithm.as_str());
    match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) if verifies && is_for(JwtAlgorithm::Rs256) => {
            VerificationKey::from_rsa(jwk.kid, &decode_integer(jwk.n)?, &decode_integer(jwk.e)?).ok()
        }
        ("EC", Some("P-256")) if verifies && is_for(JwtAlgorithm::Es256) => {
            VerificationKey::from_p256(jwk.kid, &decode_integer(jwk.x)?, &decode_integer(jwk.y)?).ok()
        }
        _ => None,
    }
}

fn decode_integer(text: Option<String>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text?).ok()
}
