//! The authentication methods that a bucket accepts, and the headers, cookies and parameters that can hold an API key or token.
//!
//! API keys and tokens must not reach the upstream (A2, A3): readers of the upstream's logs could use them. A bucket that accepts tokens or
//! API keys removes the headers, cookies and parameters that can hold one from every request. The session cookie of the admin listener is
//! removed in every bucket.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, HeaderValue};
use tidegate_config::{AuthMethod, BucketConfig, Kind};
use tidegate_s3::sigv2::query as sigv2_query;
use tidegate_s3::sigv4;
use tidegate_s3::sigv4::query;

use super::cookies::{ADMIN_SESSION, without_cookie};
use super::jwt::{JwtRejection, TokenLocations, bearer_token};
use crate::request_head::Head;

/// The header of API keys.
pub(crate) const API_KEY_HEADER: HeaderName = HeaderName::from_static("x-api-key");

/// The authentication methods that a bucket accepts.
#[derive(Debug, Clone, Default)]
pub(crate) struct AcceptedAuth {
    pub(super) signature: bool,
    /// How far ahead a SigV2 URL or form may expire; none where SigV2 is not accepted.
    pub(super) sigv2_max_lifetime: Option<Duration>,
    pub(super) api_key: bool,
    pub(super) anonymous: bool,
    /// Where a request may have its token; none if the bucket accepts no tokens.
    token_locations: Option<Arc<TokenLocations>>,
    is_s3: bool,
}

/// A possible API key, by the header that has it. The value of `Authorization: Bearer` may be an API key or a token.
pub(super) enum PresentedAuth<'a> {
    ApiKey(&'a [u8]),
    Bearer(&'a [u8]),
}

impl AcceptedAuth {
    pub(crate) fn from_config(bucket: &BucketConfig, locations: Option<&Arc<TokenLocations>>) -> Self {
        let accepts = |method| bucket.auth.contains(&method);
        Self {
            signature: accepts(AuthMethod::Sigv4),
            sigv2_max_lifetime: accepts(AuthMethod::Sigv2).then_some(bucket.sigv2_max_lifetime),
            api_key: accepts(AuthMethod::ApiKey),
            anonymous: accepts(AuthMethod::Anonymous),
            token_locations: locations.filter(|_| accepts(AuthMethod::Jwt)).cloned(),
            is_s3: bucket.kind == Kind::S3,
        }
    }

    /// Every method that at least one of these accepts.
    pub(crate) fn union<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        all.into_iter().fold(Self::default(), |one, other| Self {
            signature: one.signature || other.signature,
            sigv2_max_lifetime: one.sigv2_max_lifetime.max(other.sigv2_max_lifetime),
            api_key: one.api_key || other.api_key,
            anonymous: one.anonymous || other.anonymous,
            token_locations: one.token_locations.or_else(|| other.token_locations.clone()),
            is_s3: one.is_s3 || other.is_s3,
        })
    }

    /// Whether signatures are the only way to authenticate.
    pub(super) fn is_signature_only(&self) -> bool {
        self.signature && !self.accepts_bearer()
    }

    fn accepts_bearer(&self) -> bool {
        self.api_key || self.token_locations.is_some()
    }

    /// Whether a request authenticates by a method that the bucket accepts. Nothing is verified.
    pub(crate) fn has_presented_auth(&self, head: Head<'_>) -> bool {
        let query = head.uri.query().unwrap_or_default();
        sigv4::is_auth_presented(head)
            || (self.signature && sigv2_query::is_presigned(query))
            || (self.api_key && head.has(&API_KEY_HEADER))
            || !matches!(self.presented_token(head.headers, query), Ok(None))
    }

    /// Whether a request is handled as a signed request. An `Authorization` header that is no `Bearer` counts as a signature, so a
    /// malformed one is rejected.
    pub(super) fn is_signed_request(&self, head: Head<'_>) -> bool {
        let is_bearer = || head.headers.get_all(AUTHORIZATION).all(|value| bearer_token(value).is_some());
        let query = head.uri.query().unwrap_or_default();
        let is_presigned = query::is_presigned(query) || sigv2_query::is_presigned(query);
        let is_presented = is_presigned || head.has(&AUTHORIZATION);
        self.signature && is_presented && (is_presigned || !self.accepts_bearer() || !is_bearer())
    }

    /// The value that may be an API key. Two values in one header are an error.
    pub(super) fn presented_api_key<'a>(
        &self,
        headers: &'a HeaderMap,
    ) -> Result<Option<PresentedAuth<'a>>, RepeatedHeader> {
        if !self.api_key {
            return Ok(None);
        }
        let once = |name: &HeaderName| {
            let mut values = headers.get_all(name);
            let first = values.next();
            if values.next().is_some() { Err(RepeatedHeader) } else { Ok(first) }
        };
        if let Some(value) = once(&API_KEY_HEADER)? {
            return Ok(Some(PresentedAuth::ApiKey(value.as_bytes())));
        }
        Ok(once(&AUTHORIZATION)?.and_then(bearer_token).map(PresentedAuth::Bearer))
    }

    /// The request's token, if the bucket accepts tokens.
    pub(super) fn presented_token<'a>(
        &self,
        headers: &'a HeaderMap,
        query: &'a str,
    ) -> Result<Option<Cow<'a, str>>, JwtRejection> {
        self.token_locations.as_ref().map_or(Ok(None), |locations| locations.find(headers, query))
    }

    pub(super) fn accepts_tokens(&self) -> bool {
        self.token_locations.is_some()
    }

    /// The headers that only hold API keys or tokens. They are never forwarded.
    pub(crate) fn auth_headers(&self) -> Vec<HeaderName> {
        let token = self.token_locations.as_ref().and_then(|locations| locations.dedicated_header());
        self.api_key.then_some(API_KEY_HEADER).into_iter().chain(token.cloned()).collect()
    }

    /// The header to forward: unchanged, without its token, or none.
    pub(crate) fn strip_header<'a>(
        &self,
        name: &HeaderName,
        value: &'a HeaderValue,
    ) -> Option<Cow<'a, HeaderValue>> {
        let is_key = self.api_key && *name == API_KEY_HEADER;
        let is_bearer = self.accepts_bearer() && *name == AUTHORIZATION && bearer_token(value).is_some();
        if is_key || is_bearer {
            return None;
        }
        if *name != COOKIE {
            return self.strip_token(name, value);
        }
        match without_cookie(value, ADMIN_SESSION)? {
            Cow::Borrowed(value) => self.strip_token(name, value),
            Cow::Owned(value) => self.strip_token(name, &value).map(|value| Cow::Owned(value.into_owned())),
        }
    }

    fn strip_token<'a>(&self, name: &HeaderName, value: &'a HeaderValue) -> Option<Cow<'a, HeaderValue>> {
        match &self.token_locations {
            Some(locations) => locations.strip_header(name, value),
            None => Some(Cow::Borrowed(value)),
        }
    }

    /// Returns a predicate: whether a pair of this query is for authentication at the gateway, so that it must not be forwarded. It covers
    /// tokens and SigV2. The parameters of SigV4 are recognized by their names alone (`sigv4::query::is_presign_parameter`).
    pub(crate) fn auth_parameter_filter<'a>(&'a self, query: &str) -> impl Fn(&str) -> bool + use<'a> {
        let is_sigv2 = self.is_s3 && sigv2_query::is_presigned(query);
        move |pair| {
            self.token_locations.as_ref().is_some_and(|locations| locations.is_token_parameter(pair))
                || (is_sigv2 && sigv2_query::is_presign_parameter(pair))
        }
    }

    /// A query without the pairs that `auth_parameter_filter` selects.
    pub(crate) fn strip_query<'a>(&self, query: &'a str) -> Cow<'a, str> {
        let is_auth_parameter = self.auth_parameter_filter(query);
        if !query::pairs(query).any(&is_auth_parameter) {
            return Cow::Borrowed(query);
        }
        let kept: Vec<&str> = query.split('&').filter(|pair| !is_auth_parameter(pair)).collect();
        Cow::Owned(kept.join("&"))
    }
}

/// A header that must occur at most once occurs twice.
pub(super) struct RepeatedHeader;
