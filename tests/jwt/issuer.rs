//! A token issuer with any algorithm and header.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::{Value, json};

pub(crate) const SECRET: &str = "a-secret-that-has-thirty-two-characters";

enum Key {
    Secret(Vec<u8>),
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
}

pub(crate) struct Issuer {
    key: Key,
    /// The key ID in its tokens.
    pub(crate) kid: Option<String>,
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// The path of a key file.
pub(crate) fn path(file: &str) -> String {
    format!("{}/tests/jwt/keys/{file}", env!("CARGO_MANIFEST_DIR"))
}

/// The content of a PEM file.
pub(crate) fn pem(file: &str) -> Vec<u8> {
    let text = std::fs::read_to_string(path(file)).unwrap();
    let lines: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    STANDARD.decode(lines).unwrap()
}

pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Issuer {
    pub(crate) fn secret() -> Self {
        Self::with_secret(SECRET)
    }

    pub(crate) fn with_secret(secret: impl AsRef<[u8]>) -> Self {
        Self { key: Key::Secret(secret.as_ref().to_vec()), kid: None }
    }

    pub(crate) fn rsa() -> Self {
        Self { key: Key::Rsa(RsaKeyPair::from_pkcs8(&pem("rsa.pem")).unwrap()), kid: None }
    }

    pub(crate) fn other_rsa() -> Self {
        Self { key: Key::Rsa(RsaKeyPair::from_pkcs8(&pem("other-rsa.pem")).unwrap()), kid: None }
    }

    pub(crate) fn p256() -> Self {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pem("p256.pem"), &random);
        Self { key: Key::P256(pair.unwrap()), kid: None }
    }

    pub(crate) fn named(self, kid: &str) -> Self {
        Self { kid: Some(kid.to_owned()), ..self }
    }

    fn algorithm(&self) -> &'static str {
        match self.key {
            Key::Secret(_) => "HS256",
            Key::Rsa(_) => "RS256",
            Key::P256(_) => "ES256",
        }
    }

    /// A token with these claims.
    pub(crate) fn token(&self, claims: &Value) -> String {
        let mut header = json!({ "typ": "JWT", "alg": self.algorithm() });
        if let Some(kid) = &self.kid {
            header["kid"] = json!(kid);
        }
        self.token_with(&header, claims)
    }

    /// A token with any header, signed by this issuer.
    pub(crate) fn token_with(&self, header: &Value, claims: &Value) -> String {
        self.sign(&format!("{}.{}", encode(header.to_string()), encode(claims.to_string())))
    }

    /// A token from an encoded header and encoded claims.
    pub(crate) fn sign(&self, signed: &str) -> String {
        let random = SystemRandom::new();
        let signature = match &self.key {
            Key::Secret(secret) => {
                hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes()).as_ref().to_vec()
            }
            Key::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature).unwrap();
                signature
            }
            Key::P256(pair) => pair.sign(&random, signed.as_bytes()).unwrap().as_ref().to_vec(),
        };
        format!("{signed}.{}", encode(signature))
    }

    /// Its public key as a JWK.
    pub(crate) fn jwk(&self) -> Value {
        let mut jwk = match &self.key {
            Key::Secret(secret) => json!({ "kty": "oct", "k": encode(secret) }),
            Key::Rsa(pair) => {
                let PublicKeyComponents::<Vec<u8>> { n, e } = pair.public().into();
                json!({ "kty": "RSA", "use": "sig", "alg": "RS256", "n": encode(n), "e": encode(e) })
            }
            Key::P256(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({ "kty": "EC", "crv": "P-256", "use": "sig", "x": encode(x), "y": encode(y) })
            }
        };
        if let Some(kid) = &self.kid {
            jwk["kid"] = json!(kid);
        }
        jwk
    }
}
