//! Parses a token (RFC 7515, compact serialization) and verifies its signature.
//!
//! The header is read before the signature is verified, so only two of its members are used: `kid` selects one of the known keys, and
//! `alg` must be that key's algorithm (RFC 8725, 3.1). No key has the algorithm `none`. Keys in or referenced by the header (`jwk`, `jku`,
//! `x5c`, `x5u`) are ignored, and a header with `crit` is rejected, because no extension is supported. Claims are parsed only after the
//! signature was verified.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use tidegate_actors::KeyFingerprint;
use tidegate_config::JwtAlgorithm;

use super::JwtRejection;
use super::key::{KeySet, VerificationKey};

/// The longest token; the HTTP server's limit on headers is lower.
const BYTES_MAX: usize = 16 << 10;
/// The maximum number of keys that are tried for a token without `kid`; each try costs a verification.
const KEYS_TRIED_MAX: usize = 4;

/// The members that are used. A member that is `null` is present and not a string.
#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default, deserialize_with = "text")]
    kid: Option<String>,
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

fn text<'de, D: Deserializer<'de>>(member: D) -> Result<Option<String>, D::Error> {
    String::deserialize(member).map(Some)
}

fn present<'de, D: Deserializer<'de>>(member: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(member).map(|_| true)
}

/// A parsed token. Its signature is not verified yet.
pub(super) struct Token<'a> {
    /// The signed text: header and payload.
    signing_input: &'a str,
    payload: &'a str,
    signature: Vec<u8>,
    algorithm: JwtAlgorithm,
    kid: Option<String>,
}

impl<'a> Token<'a> {
    /// Parses a token.
    pub(super) fn parse(text: &'a str) -> Result<Self, JwtRejection> {
        const NOT_THREE: JwtRejection = JwtRejection::Malformed("it does not have three parts");
        if text.len() > BYTES_MAX {
            return Err(JwtRejection::Malformed("it is too long"));
        }
        let (signing_input, signature) = text.rsplit_once('.').ok_or(NOT_THREE)?;
        let (header, payload) =
            signing_input.split_once('.').filter(|(_, rest)| !rest.contains('.')).ok_or(NOT_THREE)?;
        let header: Header = decode_json(header, "its header is not a JSON object in UTF-8 with `alg`")?;
        if header.crit {
            return Err(JwtRejection::Malformed("its header has `crit`"));
        }
        let named = |algorithm: &JwtAlgorithm| algorithm.as_str() == header.alg;
        let algorithm =
            [JwtAlgorithm::Hs256, JwtAlgorithm::Rs256, JwtAlgorithm::Es256].into_iter().find(named);
        let algorithm = algorithm.ok_or(JwtRejection::Algorithm)?;
        Ok(Self { signing_input, payload, signature: decode(signature)?, algorithm, kid: header.kid })
    }

    /// Whether the token's key can be in a set of public keys.
    pub(super) fn uses_public_key(&self) -> bool {
        self.algorithm != JwtAlgorithm::Hs256
    }

    /// Whether the token names a public key that is not among these, so that newer keys could verify it.
    pub(super) fn names_unknown_key(&self, keys: &KeySet) -> bool {
        self.uses_public_key()
            && self.kid.as_deref().is_some_and(|kid| !keys.iter().any(|key| key.id() == Some(kid)))
    }

    /// Verifies the signature. Returns the claims and the fingerprint of the key.
    pub(super) fn verify(&self, keys: &KeySet) -> Result<(Map<String, Value>, KeyFingerprint), JwtRejection> {
        let mut rejection = JwtRejection::Algorithm;
        let fits = |key: &&VerificationKey| key.algorithm() == self.algorithm;
        if keys.iter().any(|key| fits(&key)) {
            rejection = JwtRejection::UnknownKey;
        }
        let is_named = |key: &&VerificationKey| self.kid.is_some() && key.id() == self.kid.as_deref();
        if keys.iter().any(|key| is_named(&key)) {
            // If a key has this name, only keys with this name are tried, each with its own algorithm.
            let mut rejection = JwtRejection::Algorithm;
            for key in keys.iter().filter(is_named).filter(fits) {
                if key.verifies(self.signing_input.as_bytes(), &self.signature) {
                    return Ok((self.claims()?, key.fingerprint()));
                }
                rejection = JwtRejection::Signature;
            }
            return Err(rejection);
        }
        // Keys of the configuration have no name, so they are candidates for any `kid`.
        let is_candidate = |key: &&VerificationKey| self.kid.is_none() || key.id().is_none();
        for key in keys.iter().filter(fits).filter(is_candidate).take(KEYS_TRIED_MAX) {
            if key.verifies(self.signing_input.as_bytes(), &self.signature) {
                return Ok((self.claims()?, key.fingerprint()));
            }
            rejection = JwtRejection::Signature;
        }
        Err(rejection)
    }

    fn claims(&self) -> Result<Map<String, Value>, JwtRejection> {
        decode_json(self.payload, "its payload is not a JSON object in UTF-8")
    }
}

/// Decodes a part with JSON. `serde_json` does not check the encoding of members that it skips, so the UTF-8 check comes first.
fn decode_json<T: DeserializeOwned>(part: &str, fault: &'static str) -> Result<T, JwtRejection> {
    let json = String::from_utf8(decode(part)?).map_err(|_| JwtRejection::Malformed(fault))?;
    serde_json::from_str(&json).map_err(|_| JwtRejection::Malformed(fault))
}

fn decode(part: &str) -> Result<Vec<u8>, JwtRejection> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| JwtRejection::Malformed("a part is not base64url"))
}
