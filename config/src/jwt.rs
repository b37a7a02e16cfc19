//! Tokens of clients (JWT): issuers, keys, the place of a token in a request, and the claims with its rights (A3).
//!
//! Issuer, audience and a key are required if a key of the section is set: without an issuer and an audience, tokens for other services
//! would be accepted. The rights of a token are in its claims; the section sets the names of the claims. A token without one of them
//! has no rights. A key set (JWKS) is fetched without TLS from this machine only: an attacker who can change it could sign any token.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::bucket::{AuthMethod, BaseUrl, BucketConfig, Endpoint, Pem, Scheme, Secret, TlsConfig, is_local};
use crate::fingerprint::Fingerprint;
use crate::regular_file::{open_regular, read_text};
use crate::schema::{Docs, Read as _, Section, Spec, key, nested, unset};
use crate::secret_file::SecretFromFile;
use crate::section::section;
use crate::setting::Raw;
use crate::value_type::{
    Choice, SecretText, ValueError, ValueErrors, ValueType, Word, is_http_token, list, quoted, seconds,
    toml_text,
};

/// Signature algorithm of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JwtAlgorithm {
    /// HMAC with SHA-256 and a shared secret
    Hs256,
    /// RSA (PKCS #1 v1.5) with SHA-256
    Rs256,
    /// ECDSA on P-256 with SHA-256
    Es256,
}

impl JwtAlgorithm {
    /// The name of RFC 7518.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
        }
    }
}

const ALL: [JwtAlgorithm; 3] = [JwtAlgorithm::Hs256, JwtAlgorithm::Rs256, JwtAlgorithm::Es256];
const ALGORITHMS: Choice<JwtAlgorithm> =
    Choice(&[("HS256", JwtAlgorithm::Hs256), ("RS256", JwtAlgorithm::Rs256), ("ES256", JwtAlgorithm::Es256)]);
/// RFC 7518, 3.2: at least as long as the hash.
const SECRET_BYTES_MIN: usize = 32;
const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----";

section! {
    /// Names of the claims with the rights of a token. The value of each claim is a list of text.
    pub struct JwtClaims {
        /// claim with the list of buckets, by the names that clients use; `*` matches any characters except `:`
        pub buckets: String = key("buckets", Word("name of a claim"), "buckets".to_owned());
        /// claim with the list of object key prefixes; an empty prefix allows all keys
        pub prefixes: String = key("prefixes", Word("name of a claim"), "prefixes".to_owned());
        /// claim with the list of operations: `read`, `write`, `delete`, `list`, `configure`
        pub methods: String = key("methods", Word("name of a claim"), "methods".to_owned());
    }
}

section! {
    /// The keys of the section.
    struct Keys {
        /// required `iss` of a token
        issuer: Option<String> = unset("issuer", Word("text"), "required");
        /// accepted values of `aud`; a token must have one of them
        audience: Vec<String> = key("audience", list(Word("text")), Vec::new()).default_text("required");
        /// accepted signature algorithms
        ///
        /// Each key is used for one algorithm only, whatever this list contains.
        algorithms: Vec<JwtAlgorithm> = key("algorithms", list(ALGORITHMS), ALL.to_vec());
        /// secret of HS256 tokens, at least 32 characters
        secret: Option<Secret> = unset("secret", SecretText, "none");
        /// file that holds the secret, instead of `secret`
        secret_file: Option<Secret> = unset("secret_file", SecretFromFile, "none");
        /// PEM file of a public key: RSA with at least 2048 bits for RS256, P-256 for ES256
        public_key_file: Option<Pem> = unset("public_key_file", PublicKeyFromFile, "none");
        /// file of public keys (JWKS)
        ///
        /// The gateway reads it again every minute, and when a token names a key that is not in it.
        jwks_file: Option<PathBuf> = unset("jwks_file", JwksPath, "none");
        /// URL of public keys (JWKS)
        ///
        /// The gateway fetches them again after the `max-age` of the response, at least 60 s and at most 24 h, and when a token names
        /// a key that is not in the set. While fetches fail, the last keys stay in use.
        jwks_url: Option<Endpoint> = unset("jwks_url", BaseUrl, "none");
        /// header with the token, after `Bearer`; in headers other than `authorization` `Bearer` is optional
        header: String = key("header", HeaderName, "authorization".to_owned());
        /// cookie that may hold the token
        cookie: Option<String> = unset("cookie", Token("name of a cookie"), "none");
        /// query parameter that may hold the token
        ///
        /// Other programs log URLs. The gateway's own log redacts the parameter.
        query: Option<String> = unset("query", Token("name of a parameter"), "none");
        /// tolerated difference between the clocks of the issuer and the gateway
        leeway: Duration = key("leeway_seconds", seconds(0.0..=600.0), Duration::from_secs(60));
        /// names of the claims with the rights of a token
        claims: JwtClaims = nested("claims");
        /// certificate authorities that are trusted for `jwks_url`
        tls: TlsConfig = nested("tls");
    }
}

/// Source of the key set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwksSource {
    /// a file
    File(PathBuf),
    /// a URL
    Url(Endpoint),
}

/// How tokens are verified.
#[derive(Debug, Clone, PartialEq)]
pub struct JwtConfig {
    /// required `iss` of a token
    pub issuer: String,
    /// accepted values of `aud`
    pub audience: Vec<String>,
    /// accepted signature algorithms
    pub algorithms: Vec<JwtAlgorithm>,
    /// the secret of HS256 tokens
    pub secret: Option<Secret>,
    /// a public key
    pub public_key: Option<Pem>,
    /// source of the set of public keys
    pub jwks: Option<JwksSource>,
    /// the header of tokens, in lower case
    pub header: String,
    /// the cookie of tokens
    pub cookie: Option<String>,
    /// the query parameter of tokens
    pub query: Option<String>,
    /// tolerated difference of the clocks
    pub leeway: Duration,
    /// names of the claims with the rights of a token
    pub claims: JwtClaims,
    /// certificate authorities for the URL of the key set
    pub tls: TlsConfig,
}

/// The keys that give a verification key.
const SOURCES: [&str; 5] = ["secret", "secret_file", "public_key_file", "jwks_file", "jwks_url"];

/// Whether the section is on: one of its keys without a default is set.
pub(crate) fn is_set(section: &Section<'_>) -> bool {
    let others = ["issuer", "audience", "cookie", "query"];
    SOURCES.iter().chain(&others).any(|key| section.is_set(key))
}

/// The section `jwt`. It is off until one of its keys without a default is set.
pub(crate) struct JwtKeys;

impl Spec for JwtKeys {
    type Value = Option<JwtConfig>;

    fn read(self, docs: Docs, section: &mut Section<'_>) -> Option<JwtConfig> {
        let mut child = section.child("jwt");
        child.document(docs);
        let keys = Keys::read(&mut child);
        is_set(&child).then(|| keys.check(&mut child)).flatten()
    }
}

impl Keys {
    fn check(self, section: &mut Section<'_>) -> Option<JwtConfig> {
        if self.issuer.is_none() && !section.is_refused("issuer") {
            let hint = "set it to the `iss` of the tokens to accept".to_owned();
            section.refuse(
                "issuer",
                "is required: without it tokens of any issuer would be accepted",
                Some(hint),
            );
        }
        if self.audience.is_empty() && !section.is_refused("audience") {
            let hint = "set it to the `aud` of tokens for this gateway".to_owned();
            let message = "is required: without it tokens for other services would be accepted";
            section.refuse("audience", message, Some(hint));
        }
        self.check_keys(section);
        if let Some(url) = &self.jwks_url {
            self.tls.check(&mut section.child("tls"));
            if url.scheme == Scheme::Http && !is_local(&url.host) {
                let message = format!("{} would fetch keys without TLS from another machine", url.url());
                let hint =
                    "use https://; http:// is allowed for loopback and link-local addresses".to_owned();
                section.refuse("jwks_url", message, Some(hint));
            }
        }
        let jwks = self.jwks_url.map(JwksSource::Url).or(self.jwks_file.map(JwksSource::File));
        Some(JwtConfig {
            issuer: self.issuer?,
            audience: self.audience,
            algorithms: self.algorithms,
            secret: self.secret.or(self.secret_file),
            public_key: self.public_key_file,
            jwks,
            header: self.header,
            cookie: self.cookie,
            query: self.query,
            leeway: self.leeway,
            claims: self.claims,
            tls: self.tls,
        })
    }

    fn check_keys(&self, section: &mut Section<'_>) {
        for (first, second) in [("secret", "secret_file"), ("jwks_file", "jwks_url")] {
            section.refuse_both([first, second]);
        }
        if !SOURCES.iter().any(|source| section.is_set(source)) {
            let hint = "set jwks_url, jwks_file, public_key_file or secret".to_owned();
            section.refuse("jwks_url", "no key for verification of tokens is set", Some(hint));
        }
        let (secret, at) = match &self.secret {
            Some(secret) => (Some(secret), "secret"),
            None => (self.secret_file.as_ref(), "secret_file"),
        };
        if secret.is_some_and(|secret| secret.expose().len() < SECRET_BYTES_MIN) {
            section.refuse_short_secret(at, SECRET_BYTES_MIN);
        }
        if secret.is_some() && !self.algorithms.contains(&JwtAlgorithm::Hs256) {
            let message = format!("has no effect: {} does not list HS256", section.full_key("algorithms"));
            section.refuse(at, message, None);
        }
    }
}

/// Rejects buckets that accept tokens while the section `jwt` is off.
pub(crate) fn check_buckets(
    section: &mut Section<'_>,
    buckets: &BTreeMap<String, BucketConfig>,
    is_set: bool,
) {
    let with_jwt = buckets.iter().filter(|(_, bucket)| bucket.auth.contains(&AuthMethod::Jwt));
    for (name, _) in with_jwt.filter(|_| !is_set) {
        let hint = "set jwt.issuer, jwt.audience and a key such as jwt.jwks_url".to_owned();
        section.child(name).refuse("auth", "lists jwt, but the section jwt is not set", Some(hint));
    }
}

/// The path of a public key's file.
struct PublicKeyFromFile;

impl ValueType for PublicKeyFromFile {
    type Value = Pem;

    fn parse(&self, raw: &Raw) -> Result<Pem, ValueErrors> {
        let path = raw.text()?;
        let text = read_text(path)
            .map_err(|error| ValueError::new(format!("{} cannot be read: {error}", quoted(path))))?;
        if !text.contains(PUBLIC_KEY) {
            let error = ValueError::new(format!("{} has no public key", quoted(path)));
            return Err(error.with_hint(format!("a PEM public key begins with {PUBLIC_KEY}")).into());
        }
        Ok(Pem { path: path.to_owned(), text })
    }

    fn accepts(&self) -> String {
        "path of a PEM file".to_owned()
    }

    fn fingerprint(&self, value: &Pem) -> Option<Fingerprint> {
        Some(Fingerprint::of(&value.text))
    }

    fn to_toml(&self, value: &Pem) -> String {
        toml_text(&value.path)
    }
}

/// The path of a key set. The file must be readable at the start.
struct JwksPath;

impl ValueType for JwksPath {
    type Value = PathBuf;

    fn parse(&self, raw: &Raw) -> Result<PathBuf, ValueErrors> {
        let path = raw.text()?;
        open_regular(path)
            .map_err(|error| ValueError::new(format!("{} cannot be read: {error}", quoted(path))))?;
        Ok(path.into())
    }

    fn accepts(&self) -> String {
        "path of a JWKS file".to_owned()
    }

    fn to_toml(&self, value: &PathBuf) -> String {
        toml_text(&value.display().to_string())
    }
}

/// A `token` of HTTP, such as the name of a cookie; the field is its description in the reference.
struct Token(&'static str);

impl ValueType for Token {
    type Value = String;

    fn parse(&self, raw: &Raw) -> Result<String, ValueErrors> {
        let text = raw.text()?;
        if !is_http_token(text) {
            return Err(ValueError::new(format!("{} is not the {}", quoted(text), self.0)).into());
        }
        Ok(text.to_owned())
    }

    fn accepts(&self) -> String {
        self.0.to_owned()
    }

    fn to_toml(&self, value: &String) -> String {
        toml_text(value)
    }
}

/// The name of a header that may carry a token. Headers with another meaning are rejected.
struct HeaderName;

impl ValueType for HeaderName {
    type Value = String;

    fn parse(&self, raw: &Raw) -> Result<String, ValueErrors> {
        const RESERVED: [&str; 9] = [
            "host",
            "cookie",
            "connection",
            "content-length",
            "content-type",
            "transfer-encoding",
            "expect",
            "range",
            "x-api-key",
        ];
        let name = Token("name of a header").parse(raw)?.to_ascii_lowercase();
        if RESERVED.contains(&&*name) {
            let error = ValueError::new(format!("{} is reserved for another purpose", quoted(&name)));
            return Err(error.with_hint("use a header such as authorization or x-token").into());
        }
        Ok(name)
    }

    fn accepts(&self) -> String {
        "name of a header".to_owned()
    }

    fn to_toml(&self, value: &String) -> String {
        toml_text(value)
    }
}
