//! A document of public keys (RFC 7517): those of its keys that tokens can be verified with here.
//!
//! A set may hold keys for other uses and of other kinds; they are passed over, as the RFC asks. Secrets (`oct`) are passed
//! over too: a document that is published is no place for one, and a secret in a set would be where a confused algorithm
//! finds it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;
use tidegate_config::JwtAlgorithm;

use super::key::{KeySet, VerificationKey};

/// Keys in a document; issuers publish two or three.
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

/// Reads a document; also says how many keys were passed over.
pub(super) fn parse(bytes: &[u8]) -> Result<(KeySet, usize), &'static str> {
    let document: JwkSet = serde_json::from_slice(bytes).map_err(|_| "it is no JSON with a list `keys`")?;
    let count = document.keys.len();
    if count > KEYS_MAX {
        return Err("it has more than 100 keys");
    }
    let keys: KeySet = document.keys.into_iter().filter_map(parse_key).collect();
    let passed_over = count - keys.len();
    Ok((keys, passed_over))
}

/// The key, if it is one for the signatures of tokens.
fn parse_key(value: Value) -> Option<VerificationKey> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    let signs = jwk.usage.as_deref().is_none_or(|usage| usage == "sig")
        && jwk.key_ops.as_ref().is_none_or(|operations| operations.iter().any(|one| one == "verify"));
    let is_for = |algorithm: JwtAlgorithm| jwk.alg.as_deref().is_none_or(|alg| alg == algorithm.as_str());
    match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) if signs && is_for(JwtAlgorithm::Rs256) => {
            VerificationKey::from_rsa(jwk.kid, &decode_integer(jwk.n)?, &decode_integer(jwk.e)?).ok()
        }
        ("EC", Some("P-256")) if signs && is_for(JwtAlgorithm::Es256) => {
            VerificationKey::from_p256(jwk.kid, &decode_integer(jwk.x)?, &decode_integer(jwk.y)?).ok()
        }
        _ => None,
    }
}

fn decode_integer(text: Option<String>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text?).ok()
}
