//! A token taken apart (RFC 7515, compact serialization), and its signature held against keys.
//!
//! The header is read before anything is verified, so it is believed in two things only: which of the configured keys the
//! signature is to be held against, and by which algorithm, which must be that key's own (RFC 8725, 3.1). `none` is no
//! algorithm of any key. Keys that a header brings along or points to (`jwk`, `jku`, `x5c`, `x5u`) are not looked at, and a
//! header with `crit` asks for what is not understood here. Claims are read only of a token whose signature holds.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use tidegate_actors::KeyFingerprint;
use tidegate_config::JwtAlgorithm;

use super::JwtRejection;
use super::key::{KeySet, VerificationKey};

/// More than headers may hold.
const BYTES_MAX: usize = 16 << 10;
/// Keys that a token without `kid` is tried against: each costs a verification.
const KEYS_TRIED_MAX: usize = 4;

/// A member that is `null` is there, and no text.
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

/// A token, not yet believed.
pub(super) struct Token<'a> {
    /// What the signature is over.
    signing_input: &'a str,
    payload: &'a str,
    signature: Vec<u8>,
    algorithm: JwtAlgorithm,
    kid: Option<String>,
}

impl<'a> Token<'a> {
    /// Takes a text for a token.
    pub(super) fn parse(text: &'a str) -> Result<Self, JwtRejection> {
        const NOT_THREE: JwtRejection = JwtRejection::Malformed("it has not three parts");
        if text.len() > BYTES_MAX {
            return Err(JwtRejection::Malformed("it is too long"));
        }
        let (signing_input, signature) = text.rsplit_once('.').ok_or(NOT_THREE)?;
        let (header, payload) =
            signing_input.split_once('.').filter(|(_, rest)| !rest.contains('.')).ok_or(NOT_THREE)?;
        let header: Header = decode_json(header, "its header is no object in UTF-8 with `alg`")?;
        if header.crit {
            return Err(JwtRejection::Malformed("its header has `crit`"));
        }
        let named = |algorithm: &JwtAlgorithm| algorithm.as_str() == header.alg;
        let algorithm =
            [JwtAlgorithm::Hs256, JwtAlgorithm::Rs256, JwtAlgorithm::Es256].into_iter().find(named);
        let algorithm = algorithm.ok_or(JwtRejection::Algorithm)?;
        Ok(Self { signing_input, payload, signature: decode(signature)?, algorithm, kid: header.kid })
    }

    /// Whether a set of public keys can hold its key.
    pub(super) fn uses_public_key(&self) -> bool {
        self.algorithm != JwtAlgorithm::Hs256
    }

    /// Whether other public keys than these could make a difference: it names one that is not among them.
    pub(super) fn names_unknown_key(&self, keys: &KeySet) -> bool {
        self.uses_public_key()
            && self.kid.as_deref().is_some_and(|kid| !keys.iter().any(|key| key.id() == Some(kid)))
    }

    /// The claims, and the key that vouches for them.
    pub(super) fn verify(&self, keys: &KeySet) -> Result<(Map<String, Value>, KeyFingerprint), JwtRejection> {
        let mut rejection = JwtRejection::Algorithm;
        let fits = |key: &&VerificationKey| key.algorithm() == self.algorithm;
        if keys.iter().any(|key| fits(&key)) {
            rejection = JwtRejection::UnknownKey;
        }
        let is_named = |key: &&VerificationKey| self.kid.is_some() && key.id() == self.kid.as_deref();
        if keys.iter().any(|key| is_named(&key)) {
            // A key of this name settles it: no other is tried, and none by another algorithm than its own.
            let mut rejection = JwtRejection::Algorithm;
            for key in keys.iter().filter(is_named).filter(fits) {
                if key.verifies(self.signing_input.as_bytes(), &self.signature) {
                    return Ok((self.claims()?, key.fingerprint()));
                }
                rejection = JwtRejection::Signature;
            }
            return Err(rejection);
        }
        // Keys of the configuration have no name and may be meant by any.
        let may_be_meant = |key: &&VerificationKey| self.kid.is_none() || key.id().is_none();
        for key in keys.iter().filter(fits).filter(may_be_meant).take(KEYS_TRIED_MAX) {
            if key.verifies(self.signing_input.as_bytes(), &self.signature) {
                return Ok((self.claims()?, key.fingerprint()));
            }
            rejection = JwtRejection::Signature;
        }
        Err(rejection)
    }

    fn claims(&self) -> Result<Map<String, Value>, JwtRejection> {
        decode_json(self.payload, "its payload is no object in UTF-8")
    }
}

/// A part that holds JSON. `serde_json` alone would not look at the encoding of members that it skips.
fn decode_json<T: DeserializeOwned>(part: &str, fault: &'static str) -> Result<T, JwtRejection> {
    let json = String::from_utf8(decode(part)?).map_err(|_| JwtRejection::Malformed(fault))?;
    serde_json::from_str(&json).map_err(|_| JwtRejection::Malformed(fault))
}

fn decode(part: &str) -> Result<Vec<u8>, JwtRejection> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| JwtRejection::Malformed("a part of it is no base64url"))
}
