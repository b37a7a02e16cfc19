//! Tokens of clients (JWT): whose are believed, where they stand in a request, and which claims say what they allow (A3).
//!
//! Issuer, audience and a key are required as soon as anything of the section is set: a token that is checked against no
//! issuer or audience is anybody's. What a token may do stands in its claims, by names that are set here; a token without
//! one of them may do nothing. A set of keys (JWKS) is fetched in the clear from this machine only: who could change it on its
//! way could sign as anybody.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::bucket::{AuthMethod, BaseUrl, BucketConfig, Endpoint, Pem, Scheme, Secret, TlsConfig, is_near};
use crate::form::{Choice, Fault, Faults, Form, SecretText, Word, list, seconds, shown};
use crate::regular_file::{open_regular, read_text};
use crate::secret_file::SecretIn;
use crate::section::section;
use crate::setting::Raw;
use crate::walk::{Docs, Read as _, Section, Spec, key, nested, unset};

/// How a token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JwtAlgorithm {
    /// HMAC with SHA-256, a secret that both sides know
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
    /// The claims that say what a token allows, each a list of text.
    pub struct JwtClaims {
        /// claim that lists the buckets, as clients use their names; `*` stands for any run of characters but `:`
        pub buckets: String = key("buckets", Word("name of a claim"), "buckets".to_owned());
        /// claim that lists the beginnings of the keys; an empty text in it allows all keys
        pub prefixes: String = key("prefixes", Word("name of a claim"), "prefixes".to_owned());
        /// claim that lists what may be done: `read`, `write`, `delete`, `list`, `configure`
        pub methods: String = key("methods", Word("name of a claim"), "methods".to_owned());
    }
}

section! {
    /// The section as it is written.
    struct Keys {
        /// `iss` that a token must have
        issuer: Option<String> = unset("issuer", Word("text"), "required");
        /// `aud` of which a token must have one
        audience: Vec<String> = key("audience", list(Word("text")), Vec::new()).yielding("required");
        /// signatures that are accepted; each key is good for one of them in any case
        algorithms: Vec<JwtAlgorithm> = key("algorithms", list(ALGORITHMS), ALL.to_vec());
        /// secret of HS256 tokens, 32 characters or more
        secret: Option<Secret> = unset("secret", SecretText, "none");
        /// file that holds it, in place of `secret`
        secret_file: Option<Secret> = unset("secret_file", SecretIn, "none");
        /// file of a public key (PEM): RSA of 2048 bits or more for RS256, P-256 for ES256
        public_key_file: Option<Pem> = unset("public_key_file", PublicKeyIn, "none");
        /// file of public keys (JWKS); it is read again every minute, and when a token names a key it lacks
        jwks_file: Option<PathBuf> = unset("jwks_file", JwksPath, "none");
        /// where public keys (JWKS) are fetched; again as their `max-age` says, within 60 s and 24 h, and when a token names a
        /// key they lack
        ///
        /// While it fails, the keys that were fetched last go on holding.
        jwks_url: Option<Endpoint> = unset("jwks_url", BaseUrl, "none");
        /// header that a token stands in, with `Bearer` before it or, in another header than `authorization`, by itself
        header: String = key("header", HeaderName, "authorization".to_owned());
        /// cookie that a token may stand in
        cookie: Option<String> = unset("cookie", Token("name of a cookie"), "none");
        /// query parameter that a token may stand in
        ///
        /// URLs end up in the logs of others; the gateway's own log redacts it.
        query: Option<String> = unset("query", Token("name of a parameter"), "none");
        /// how far the issuer's clock may be from the gateway's
        leeway: Duration = key("leeway_seconds", seconds(0.0..=600.0), Duration::from_secs(60));
        /// which claims say what a token allows
        claims: JwtClaims = nested("claims");
        /// authorities that are trusted for `jwks_url`
        tls: TlsConfig = nested("tls");
    }
}

/// Where a set of keys comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwksSource {
    /// a file
    File(PathBuf),
    /// a URL
    Url(Endpoint),
}

/// Whose tokens are believed.
#[derive(Debug, Clone, PartialEq)]
pub struct JwtConfig {
    /// the `iss` of a token
    pub issuer: String,
    /// one of these must be in a token's `aud`
    pub audience: Vec<String>,
    /// signatures that are accepted
    pub algorithms: Vec<JwtAlgorithm>,
    /// the secret of HS256 tokens
    pub secret: Option<Secret>,
    /// a public key
    pub public_key: Option<Pem>,
    /// a set of public keys
    pub jwks: Option<JwksSource>,
    /// the header of tokens, in lower case
    pub header: String,
    /// the cookie of tokens
    pub cookie: Option<String>,
    /// the query parameter of tokens
    pub query: Option<String>,
    /// how far the issuer's clock may be off
    pub leeway: Duration,
    /// which claims say what a token allows
    pub claims: JwtClaims,
    /// whom the URL of keys is believed
    pub tls: TlsConfig,
}

/// Where keys come from.
const SOURCES: [&str; 5] = ["secret", "secret_file", "public_key_file", "jwks_file", "jwks_url"];

/// Whether the section is on: anything of it is set that has no default.
pub(crate) fn is_set(section: &Section<'_>) -> bool {
    let others = ["issuer", "audience", "cookie", "query"];
    SOURCES.iter().chain(&others).any(|key| section.is_set(key))
}

/// The section `jwt`, which is off until anything of it is set that has no default.
pub(crate) struct JwtKeys;

impl Spec for JwtKeys {
    type Value = Option<JwtConfig>;

    fn take(self, docs: Docs, section: &mut Section<'_>) -> Option<JwtConfig> {
        let mut child = section.child("jwt");
        child.introduce(docs);
        let keys = Keys::read(&mut child);
        is_set(&child).then(|| keys.check(&mut child)).flatten()
    }
}

impl Keys {
    fn check(self, section: &mut Section<'_>) -> Option<JwtConfig> {
        if self.issuer.is_none() && !section.is_refused("issuer") {
            let hint = "name who signs the tokens".to_owned();
            section.refuse("issuer", "tokens of nobody in particular are not believed", Some(hint));
        }
        if self.audience.is_empty() && !section.is_refused("audience") {
            let hint = "name what stands in `aud` of tokens that are meant for this gateway".to_owned();
            section.refuse("audience", "tokens for somebody else are not believed", Some(hint));
        }
        self.check_keys(section);
        if let Some(url) = &self.jwks_url {
            self.tls.check(&mut section.child("tls"));
            if url.scheme == Scheme::Http && !is_near(&url.host) {
                let message = format!("{} would bring keys in the clear", url.url());
                let hint = "use https://; http:// is for loopback and link-local addresses".to_owned();
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
            if section.is_set(first) && section.is_set(second) {
                let message = format!("is set, and so is {}", section.spell(first));
                section.refuse(second, message, Some("set one of them".to_owned()));
            }
        }
        if !SOURCES.iter().any(|source| section.is_set(source)) {
            let hint = "set jwks_url, jwks_file, public_key_file or secret".to_owned();
            section.refuse("jwks_url", "there is no key to verify tokens with", Some(hint));
        }
        let (secret, at) = match &self.secret {
            Some(secret) => (Some(secret), "secret"),
            None => (self.secret_file.as_ref(), "secret_file"),
        };
        if secret.is_some_and(|secret| secret.expose().len() < SECRET_BYTES_MIN) {
            let message = format!("is shorter than {SECRET_BYTES_MIN} characters and could be guessed");
            section.refuse(at, message, Some("openssl rand -hex 32 makes a good one".to_owned()));
        }
        if secret.is_some() && !self.algorithms.contains(&JwtAlgorithm::Hs256) {
            let message = format!("has no effect: {} lacks HS256", section.spell("algorithms"));
            section.refuse(at, message, None);
        }
    }
}

/// A bucket that counts on tokens needs somebody whose tokens are believed.
pub(crate) fn check_buckets(
    section: &mut Section<'_>,
    buckets: &BTreeMap<String, BucketConfig>,
    is_set: bool,
) {
    let counting = buckets.iter().filter(|(_, bucket)| bucket.auth.contains(&AuthMethod::Jwt));
    for (name, _) in counting.filter(|_| !is_set) {
        let hint = "set jwt.issuer, jwt.audience and a key such as jwt.jwks_url".to_owned();
        section.child(name).refuse("auth", "lists jwt, and no tokens are believed", Some(hint));
    }
}

/// The path of a public key's file.
struct PublicKeyIn;

impl Form for PublicKeyIn {
    type Value = Pem;

    fn parse(&self, raw: &Raw) -> Result<Pem, Faults> {
        let path = raw.text()?;
        let text = read_text(path)
            .map_err(|error| Fault::new(format!("{} cannot be read: {error}", shown(path))))?;
        if !text.contains(PUBLIC_KEY) {
            let fault = Fault::new(format!("{} holds no public key", shown(path)));
            return Err(fault.hinting(format!("PEM begins with {PUBLIC_KEY}")).into());
        }
        Ok(Pem { path: path.to_owned(), text })
    }

    fn accepts(&self) -> String {
        "path of a PEM file".to_owned()
    }

    fn show(&self, value: &Pem) -> String {
        shown(&value.path)
    }
}

/// The path of a set of keys, which must be readable now.
struct JwksPath;

impl Form for JwksPath {
    type Value = PathBuf;

    fn parse(&self, raw: &Raw) -> Result<PathBuf, Faults> {
        let path = raw.text()?;
        open_regular(path).map_err(|error| Fault::new(format!("{} cannot be read: {error}", shown(path))))?;
        Ok(path.into())
    }

    fn accepts(&self) -> String {
        "path of a JWKS file".to_owned()
    }

    fn show(&self, value: &PathBuf) -> String {
        shown(&value.display().to_string())
    }
}

/// Characters of names in HTTP (RFC 9110, `token`).
fn is_token(text: &str) -> bool {
    let is_mark = |byte| b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || is_mark(byte))
}

/// A name that HTTP allows for cookies; the field is how the reference calls it.
struct Token(&'static str);

impl Form for Token {
    type Value = String;

    fn parse(&self, raw: &Raw) -> Result<String, Faults> {
        let text = raw.text()?;
        if !is_token(text) {
            return Err(Fault::new(format!("{} is no {}", shown(text), self.0)).into());
        }
        Ok(text.to_owned())
    }

    fn accepts(&self) -> String {
        self.0.to_owned()
    }

    fn show(&self, value: &String) -> String {
        shown(value)
    }
}

/// The name of a header that may carry a token: none that means something else.
struct HeaderName;

impl Form for HeaderName {
    type Value = String;

    fn parse(&self, raw: &Raw) -> Result<String, Faults> {
        const TAKEN: [&str; 9] = [
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
        if TAKEN.contains(&&*name) {
            let fault = Fault::new(format!("{} means something else", shown(&name)));
            return Err(fault.hinting("such as authorization or x-token").into());
        }
        Ok(name)
    }

    fn accepts(&self) -> String {
        "name of a header".to_owned()
    }

    fn show(&self, value: &String) -> String {
        shown(value)
    }
}
