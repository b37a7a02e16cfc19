//! What counts as proof of identity in a bucket, where it stands, and that it ends here.
//!
//! What a client shows the gateway is none of the upstream's business (A2, A3): it could be used there, or against this gateway by
//! whoever reads the upstream's logs. So a bucket that takes tokens or API keys passes none of their places on, whether or not
//! the request was let in by what stood there.

use std::borrow::Cow;
use std::sync::Arc;

use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use tidegate_config::AuthMethod;

use super::jwt::{JwtRejection, Places, bearer};
use crate::http::edge::Head;
use crate::s3::sigv4;
use crate::s3::sigv4::query;

/// The header of API keys.
pub(crate) const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The proofs that a bucket takes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Proofs {
    pub(super) signature: bool,
    pub(super) api_key: bool,
    pub(super) anonymous: bool,
    /// Where tokens stand, if they are taken.
    token: Option<Arc<Places>>,
}

/// Where a client showed an API key: of `Authorization` it is not known whether it is one.
pub(super) enum Shown<'a> {
    ApiKey(&'a [u8]),
    Bearer(&'a [u8]),
}

impl Proofs {
    pub(crate) fn of(auth: &[AuthMethod], places: Option<&Arc<Places>>) -> Self {
        let takes = |method| auth.contains(&method);
        Self {
            signature: takes(AuthMethod::Sigv4),
            api_key: takes(AuthMethod::ApiKey),
            anonymous: takes(AuthMethod::Anonymous),
            token: places.filter(|_| takes(AuthMethod::Jwt)).cloned(),
        }
    }

    /// Any proof that one of these takes.
    pub(crate) fn any<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        all.into_iter().fold(Self::default(), |one, other| Self {
            signature: one.signature || other.signature,
            api_key: one.api_key || other.api_key,
            anonymous: one.anonymous || other.anonymous,
            token: one.token.or_else(|| other.token.clone()),
        })
    }

    /// Whether nothing but signatures proves anything.
    pub(super) fn is_signature_only(&self) -> bool {
        self.signature && !self.takes_bearer()
    }

    fn takes_bearer(&self) -> bool {
        self.api_key || self.token.is_some()
    }

    /// Whether a request says that it is somebody's, in a way that may be looked at.
    pub(crate) fn are_offered(&self, head: Head<'_>) -> bool {
        let query = head.uri.query().unwrap_or_default();
        sigv4::offers_proof(head)
            || (self.api_key && head.headers.contains_key(API_KEY))
            || !matches!(self.token(head.headers, query), Ok(None))
    }

    /// Whether a request is to be taken for a signed one: what is neither that nor a bearer's proof is a signature gone wrong.
    pub(super) fn are_signature(&self, head: Head<'_>) -> bool {
        let is_bearer = || head.headers.get_all(AUTHORIZATION).all(|value| bearer(value).is_some());
        let presigns = query::offers_proof(head.uri.query().unwrap_or_default());
        self.signature && sigv4::offers_proof(head) && (presigns || !self.takes_bearer() || !is_bearer())
    }

    /// What may be an API key; several are an error.
    pub(super) fn api_key<'a>(&self, headers: &'a HeaderMap) -> Result<Option<Shown<'a>>, Repeated> {
        if !self.api_key {
            return Ok(None);
        }
        let once = |name: &HeaderName| {
            let mut values = headers.get_all(name);
            let first = values.next();
            if values.next().is_some() { Err(Repeated) } else { Ok(first) }
        };
        if let Some(value) = once(&API_KEY)? {
            return Ok(Some(Shown::ApiKey(value.as_bytes())));
        }
        Ok(once(&AUTHORIZATION)?.and_then(bearer).map(Shown::Bearer))
    }

    /// The request's token, if the bucket takes tokens.
    pub(super) fn token<'a>(
        &self,
        headers: &'a HeaderMap,
        query: &'a str,
    ) -> Result<Option<Cow<'a, str>>, JwtRejection> {
        self.token.as_ref().map_or(Ok(None), |places| places.find(headers, query))
    }

    pub(super) fn takes_tokens(&self) -> bool {
        self.token.is_some()
    }

    /// The headers that hold nothing but a proof, and so never travel on.
    pub(crate) fn headers(&self) -> Vec<HeaderName> {
        let token = self.token.as_ref().and_then(|places| places.own_header());
        self.api_key.then_some(API_KEY).into_iter().chain(token.cloned()).collect()
    }

    /// A header as it travels on: whole, without what proves an identity here, or not at all.
    pub(crate) fn taken_from<'a>(
        &self,
        name: &HeaderName,
        value: &'a HeaderValue,
    ) -> Option<Cow<'a, HeaderValue>> {
        let is_key = self.api_key && *name == API_KEY;
        let is_bearer = self.takes_bearer() && *name == AUTHORIZATION && bearer(value).is_some();
        if is_key || is_bearer {
            return None;
        }
        match &self.token {
            Some(places) => places.without_token(name, value),
            None => Some(Cow::Borrowed(value)),
        }
    }

    /// Whether a pair of a query is where a token stands.
    pub(crate) fn is_token(&self, pair: &str) -> bool {
        self.token.as_ref().is_some_and(|places| places.is_parameter(pair))
    }

    /// A query without the token that may stand in it.
    pub(crate) fn without_token<'a>(&self, query: &'a str) -> Cow<'a, str> {
        if !query::pairs(query).any(|pair| self.is_token(pair)) {
            return Cow::Borrowed(query);
        }
        let kept: Vec<&str> = query.split('&').filter(|pair| !self.is_token(pair)).collect();
        Cow::Owned(kept.join("&"))
    }
}

/// A header that should be there once.
pub(super) struct Repeated;
