//! The role of a client of the admin listener, and the proof of it.
//!
//! A client certificate is an operator's. Else one bearer token is read (RFC 6750, 2.1), and without one the session's
//! cookie. A listener without tokens and without client certificates accepts everybody; the configuration allows that on
//! a loopback address only. Tokens are kept and compared as SHA-256 digests, in constant time, so neither the time nor a
//! dump of this state reveals a token.

use std::cell::RefCell;
use std::io;
use std::net::IpAddr;
use std::time::Instant;

use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};
use tidegate_config::{AdminConfig, Secret};

use super::rejection::AdminRejection;
use super::role::AdminRole;
use super::session::{Session, Sessions};
use super::token_failures::{FailureDecision, TokenFailures};

/// The role of a client, and its proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AdminIdentity {
    pub(super) role: AdminRole,
    /// The session, if a cookie is the proof.
    pub(super) session: Option<Session>,
}

/// The SHA-256 digest of a token.
#[derive(PartialEq, Eq)]
struct TokenDigest([u8; 32]);

impl TokenDigest {
    fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    fn is_that_of(&self, configured: Option<&Self>) -> Choice {
        // An absent token is compared too, and never equal.
        let digest = configured.map_or(&[0; 32], |configured| &configured.0);
        self.0.ct_eq(digest) & Choice::from(u8::from(configured.is_some()))
    }
}

/// The tokens of one configuration.
struct Tokens {
    operator: Option<TokenDigest>,
    reader: Option<TokenDigest>,
}

impl Tokens {
    fn of(config: &AdminConfig) -> Self {
        let digest = |token: Option<&Secret>| token.map(|token| TokenDigest::of(token.expose().as_bytes()));
        Self { operator: digest(config.operator_token()), reader: digest(config.read_token()) }
    }
}

/// The proofs that the listener accepts.
pub(super) struct Authenticator {
    tokens: RefCell<Tokens>,
    pub(super) sessions: Sessions,
    failures: RefCell<TokenFailures>,
}

/// A refused token, and whether the log names its address.
pub(super) struct TokenRejection {
    pub(super) rejection: AdminRejection,
    pub(super) is_logged: bool,
}

impl From<AdminRejection> for TokenRejection {
    fn from(rejection: AdminRejection) -> Self {
        Self { rejection, is_logged: false }
    }
}

impl Authenticator {
    /// # Errors The system has no random bytes.
    pub(super) fn new(config: &AdminConfig, now: Instant) -> io::Result<Self> {
        Ok(Self {
            tokens: RefCell::new(Tokens::of(config)),
            sessions: Sessions::new(now)?,
            failures: RefCell::default(),
        })
    }

    /// Accepts the tokens of another configuration. The sessions of a role end with its token. Returns whether a token is another one.
    pub(super) fn set_tokens(&self, config: &AdminConfig) -> bool {
        let old = self.tokens.replace(Tokens::of(config));
        let new = self.tokens.borrow();
        let roles = [
            (AdminRole::Operator, old.operator != new.operator),
            (AdminRole::Reader, old.reader != new.reader),
        ];
        let changed = roles.into_iter().filter(|(_, is_changed)| *is_changed);
        changed.map(|(role, _)| self.sessions.end_all(role)).count() > 0
    }

    /// Whether the listener has a token.
    pub(super) fn has_tokens(&self) -> bool {
        let tokens = self.tokens.borrow();
        tokens.operator.is_some() || tokens.reader.is_some()
    }

    /// Identifies the client of a request. `has_certificate`: it has shown a certificate of a known authority.
    pub(super) fn identify(
        &self,
        headers: &HeaderMap,
        has_certificate: bool,
        (client, now): (Option<IpAddr>, Instant),
    ) -> Result<AdminIdentity, TokenRejection> {
        if has_certificate || !self.has_tokens() {
            return Ok(AdminIdentity { role: AdminRole::Operator, session: None });
        }
        if headers.contains_key(AUTHORIZATION) {
            let role = self.verify_header(headers, (client, now))?;
            return Ok(AdminIdentity { role, session: None });
        }
        match self.sessions.of_request(headers, now) {
            Ok(Some(session)) => Ok(AdminIdentity { role: session.role, session: Some(session) }),
            Ok(None) => Err(AdminRejection::NoToken.into()),
            Err(()) => Err(AdminRejection::SessionEnded.into()),
        }
    }

    /// The role of the token in `Authorization`.
    pub(super) fn verify_header(
        &self,
        headers: &HeaderMap,
        (client, now): (Option<IpAddr>, Instant),
    ) -> Result<AdminRole, TokenRejection> {
        match bearer_token(headers) {
            Some(token) => self.verify_token(token, (client, now)),
            None => Err(self.reject(AdminRejection::MalformedToken, (client, now))),
        }
    }

    /// The role of a token.
    pub(super) fn verify_token(
        &self,
        token: &[u8],
        (client, now): (Option<IpAddr>, Instant),
    ) -> Result<AdminRole, TokenRejection> {
        let (digest, tokens) = (TokenDigest::of(token), self.tokens.borrow());
        let is_operator = digest.is_that_of(tokens.operator.as_ref());
        let is_reader = digest.is_that_of(tokens.reader.as_ref());
        match (bool::from(is_operator), bool::from(is_reader)) {
            (true, _) => Ok(AdminRole::Operator),
            (_, true) => Ok(AdminRole::Reader),
            _ => Err(self.reject(AdminRejection::WrongToken, (client, now))),
        }
    }

    fn reject(&self, rejection: AdminRejection, (client, now): (Option<IpAddr>, Instant)) -> TokenRejection {
        let Some(client) = client else { return rejection.into() };
        match self.failures.borrow_mut().record(client, now) {
            FailureDecision::Refuse => rejection.into(),
            FailureDecision::Limit { left, is_first } => {
                TokenRejection { rejection: AdminRejection::TooManyAttempts(left), is_logged: is_first }
            }
        }
    }
}

/// The token of exactly one `Authorization: Bearer`.
fn bearer_token(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(AUTHORIZATION);
    let value = values.next().filter(|_| values.next().is_none())?.as_bytes();
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"Bearer ") && token.iter().all(u8::is_ascii_graphic) && !token.is_empty())
        .then_some(token)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn token_of(values: &[&[u8]]) -> Option<Vec<u8>> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
        }
        bearer_token(&headers).map(<[u8]>::to_vec)
    }

    /// O5, Bad input: only one header with the scheme and one token has a token
    #[test]
    fn one_bearer_token_is_read() {
        for value in ["Bearer abc", "bearer abc", "BEARER  abc "] {
            assert_eq!(token_of(&[value.as_bytes()]).as_deref(), Some(&b"abc"[..]), "{value}");
        }
        for value in ["", "Bearer", "Bearer ", "Bearer a b", "Basic abc", "Bearerabc", "abc", "Bearer\tabc"] {
            assert_eq!(token_of(&[value.as_bytes()]), None, "{value:?}");
        }
        assert_eq!(token_of(&[b"Bearer \xff\xfe"]), None);
        assert_eq!(token_of(&[b"Bearer abc", b"Bearer abc"]), None);
        assert_eq!(token_of(&[]), None);
    }

    /// O5: an absent token equals nothing, not even a digest of zeros
    #[test]
    fn an_absent_token_is_never_equal() {
        let zero = TokenDigest([0; 32]);
        assert!(!bool::from(zero.is_that_of(None)));
        assert!(bool::from(TokenDigest::of(b"a").is_that_of(Some(&TokenDigest::of(b"a")))));
        assert!(!bool::from(TokenDigest::of(b"a").is_that_of(Some(&TokenDigest::of(b"b")))));
    }
}
