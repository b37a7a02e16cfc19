//! A key that verifies tokens with exactly one algorithm.
//!
//! The key determines the algorithm, not the token: the bytes of an RSA key are never used as an HMAC secret. The cryptography is ring's,
//! which rustls already depends on. Weak keys are rejected when they are loaded, not when they are used.
//!
//! Sources: RFC 7518 (algorithms and key parameters), RFC 8017 A.1.1 and RFC 5480 (content of a PEM file).

use std::fmt;

use ring::rsa::PublicKeyComponents;
use ring::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use ring::{digest, hmac};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use tidegate_actors::KeyFingerprint;
use tidegate_config::JwtAlgorithm;

/// The accepted lengths of RSA keys.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// An uncompressed point: the marker byte and two coordinates.
const POINT_BYTES: usize = 1 + 2 * COORDINATE_BYTES;
const COORDINATE_BYTES: usize = 32;
const UNCOMPRESSED: u8 = 4;

/// `AlgorithmIdentifier`s in DER: rsaEncryption, and id-ecPublicKey on prime256v1.
const RSA: [u8; 15] = [0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
const P256: [u8; 21] =
    [0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];

/// The keys that are valid at one time.
pub(crate) type KeySet = Vec<VerificationKey>;

#[derive(Clone)]
enum KeyMaterial {
    Secret(hmac::Key),
    /// Modulus and exponent, without leading zeros.
    Rsa(PublicKeyComponents<Vec<u8>>),
    /// A point of P-256.
    Point(Vec<u8>),
}

/// One key.
#[derive(Clone)]
pub(crate) struct VerificationKey {
    /// The `kid` in a JWK set; keys of the configuration have none.
    id: Option<String>,
    material: KeyMaterial,
    fingerprint: KeyFingerprint,
}

impl fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?}, {})", self.id, self.algorithm().as_str())
    }
}

impl VerificationKey {
    /// A shared secret for HS256.
    pub(super) fn from_secret(secret: &[u8]) -> Self {
        let material = KeyMaterial::Secret(hmac::Key::new(hmac::HMAC_SHA256, secret));
        Self { id: None, material, fingerprint: hash_parts(&[b"HS256", secret]) }
    }

    /// A public key in a PEM file.
    pub(super) fn from_pem(text: &str) -> Result<Self, &'static str> {
        let info = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes())
            .map_err(|_| "it has no public key in PEM")?;
        let (fields, rest) = der_element(&info, SEQUENCE).ok_or(NOT_SPKI)?;
        if !rest.is_empty() {
            return Err(NOT_SPKI);
        }
        if let Some(bits) = fields.strip_prefix(&RSA) {
            let (key, _) = der_element(bit_string(bits)?, SEQUENCE).ok_or(NOT_SPKI)?;
            let (modulus, rest) = der_element(key, INTEGER).ok_or(NOT_SPKI)?;
            let (exponent, _) = der_element(rest, INTEGER).ok_or(NOT_SPKI)?;
            return Self::from_rsa(None, modulus, exponent);
        }
        match fields.strip_prefix(&P256) {
            Some(bits) => Self::from_point(None, bit_string(bits)?.to_vec()),
            None => Err("its key is neither RSA nor on P-256"),
        }
    }

    /// An RSA key from its modulus and exponent.
    pub(super) fn from_rsa(
        id: Option<String>,
        modulus: &[u8],
        exponent: &[u8],
    ) -> Result<Self, &'static str> {
        let (n, e) = (without_zeros(modulus).to_vec(), without_zeros(exponent).to_vec());
        let bits = n.len() * 8 - n.first().map_or(0, |first| first.leading_zeros() as usize);
        if !RSA_BITS.contains(&bits) {
            return Err("an RSA key must have 2048 to 8192 bits");
        }
        if e.len() > 4 || e.last().is_none_or(|last| last % 2 == 0) || e == [1] {
            return Err("an RSA key's exponent must be odd, above 1, and of at most 4 bytes");
        }
        let fingerprint = hash_parts(&[b"RS256", &n, &e]);
        Ok(Self { id, material: KeyMaterial::Rsa(PublicKeyComponents { n, e }), fingerprint })
    }

    /// A P-256 key from its coordinates.
    pub(super) fn from_p256(id: Option<String>, x: &[u8], y: &[u8]) -> Result<Self, &'static str> {
        if x.len() != COORDINATE_BYTES || y.len() != COORDINATE_BYTES {
            return Err("a coordinate on P-256 has 32 bytes");
        }
        Self::from_point(id, [&[UNCOMPRESSED], x, y].concat())
    }

    fn from_point(id: Option<String>, point: Vec<u8>) -> Result<Self, &'static str> {
        if point.len() != POINT_BYTES || point.first() != Some(&UNCOMPRESSED) {
            return Err("a key on P-256 must be an uncompressed point");
        }
        let fingerprint = hash_parts(&[b"ES256", &point]);
        Ok(Self { id, material: KeyMaterial::Point(point), fingerprint })
    }

    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    pub(super) fn fingerprint(&self) -> KeyFingerprint {
        self.fingerprint
    }

    /// The key's algorithm.
    pub(super) fn algorithm(&self) -> JwtAlgorithm {
        match self.material {
            KeyMaterial::Secret(_) => JwtAlgorithm::Hs256,
            KeyMaterial::Rsa(_) => JwtAlgorithm::Rs256,
            KeyMaterial::Point(_) => JwtAlgorithm::Es256,
        }
    }

    /// Whether this is the key's signature of the message.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let verified = match &self.material {
            // `hmac::verify` takes constant time.
            KeyMaterial::Secret(key) => hmac::verify(key, message, signature),
            KeyMaterial::Rsa(key) => key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature),
            KeyMaterial::Point(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
        };
        verified.is_ok()
    }
}

fn hash_parts(parts: &[&[u8]]) -> KeyFingerprint {
    let mut hash = digest::Context::new(&digest::SHA256);
    for part in parts {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hash.finish().as_ref());
    KeyFingerprint(bytes)
}

const NOT_SPKI: &str = "its key is not a SubjectPublicKeyInfo";
const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 2;
const BIT_STRING: u8 = 3;

/// The content of the first element, if it has this tag, and the bytes after the element.
fn der_element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (head, rest) = der.split_first_chunk::<2>()?;
    let (length, rest) = match head[1] {
        short @ 0..=0x7f => (usize::from(short), rest),
        0x81 => rest.split_first().map(|(length, rest)| (usize::from(*length), rest))?,
        0x82 => {
            rest.split_first_chunk::<2>().map(|(length, rest)| (u16::from_be_bytes(*length).into(), rest))?
        }
        _ => return None,
    };
    (head[0] == tag).then(|| rest.split_at_checked(length)).flatten()
}

fn bit_string(der: &[u8]) -> Result<&[u8], &'static str> {
    let (bits, rest) = der_element(der, BIT_STRING).ok_or(NOT_SPKI)?;
    // The first byte is the number of unused bits; it must be 0.
    bits.strip_prefix(&[0]).filter(|_| rest.is_empty()).ok_or(NOT_SPKI)
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}
