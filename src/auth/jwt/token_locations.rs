//! Finds a token in its configured locations of a request, and removes it before the request is forwarded.
//!
//! The header has precedence, then the query, then the cookie, because browsers send cookies on their own. Two tokens in one location are
//! rejected: another parser could read the other one. Names in a query are compared after percent-decoding, so that every spelling that the
//! upstream could decode is found and removed here.

use std::borrow::Cow;

use actix_web::http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, HeaderValue};
use tidegate_config::JwtConfig;
use tidegate_s3::sigv4::query::{decoded_name, decoded_text, value_of};

use super::JwtRejection;
use crate::auth::cookies::{cookie_value, without_cookie};

const NOT_TEXT: JwtRejection = JwtRejection::Malformed("it is not UTF-8");

/// The locations of a configuration.
#[derive(Debug)]
pub(crate) struct TokenLocations {
    header: HeaderName,
    cookie: Option<String>,
    query: Option<String>,
}

/// The value after the scheme `Bearer` (RFC 6750, section 2.1), without surrounding white space; none if the scheme is another one. A
/// scheme's name is a token (RFC 9110, section 11.1), so any other character ends it. A malformed value after it is a failed
/// authentication, because another parser could find a token in it.
pub(crate) fn bearer_token(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, rest) = value.as_bytes().trim_ascii_start().split_at_checked(b"bearer".len())?;
    let is_bearer = scheme.eq_ignore_ascii_case(b"bearer") && !rest.first().is_some_and(is_tchar);
    is_bearer.then(|| rest.trim_ascii())
}

/// RFC 9110, section 5.6.2.
fn is_tchar(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)
}

impl TokenLocations {
    pub(crate) fn from_config(config: &JwtConfig) -> Self {
        let header = HeaderName::try_from(config.header.as_str()).unwrap_or(AUTHORIZATION);
        Self { header, cookie: config.cookie.clone(), query: config.query.clone() }
    }

    /// The token of a request, if it has one.
    pub(crate) fn find<'a>(
        &self,
        headers: &'a HeaderMap,
        query: &'a str,
    ) -> Result<Option<Cow<'a, str>>, JwtRejection> {
        let header =
            at_most_one(headers.get_all(&self.header).filter_map(|value| self.token_in_header(value)))?;
        if let Some(value) = header {
            return std::str::from_utf8(value).map(|text| Some(text.into())).map_err(|_| NOT_TEXT);
        }
        let pairs = query.split('&').filter(|pair| self.is_token_parameter(pair));
        if let Some(pair) = at_most_one(pairs)? {
            return Ok(Some(decoded_text(value_of(pair))));
        }
        let Some(name) = &self.cookie else { return Ok(None) };
        let cookies = headers.get_all(COOKIE).flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
        let value = at_most_one(cookies.filter_map(|cookie| cookie_value(cookie, name)))?;
        value.map(|value| std::str::from_utf8(value).map(Cow::from).map_err(|_| NOT_TEXT)).transpose()
    }

    fn token_in_header<'a>(&self, value: &'a HeaderValue) -> Option<&'a [u8]> {
        // A header other than `Authorization` only has tokens, with or without the scheme.
        bearer_token(value).or_else(|| (self.header != AUTHORIZATION).then(|| value.as_bytes().trim_ascii()))
    }

    /// The configured header, if it is not `Authorization` and so only has tokens.
    pub(crate) fn dedicated_header(&self) -> Option<&HeaderName> {
        Some(&self.header).filter(|name| **name != AUTHORIZATION)
    }

    /// Whether a pair of a query is the token parameter.
    pub(crate) fn is_token_parameter(&self, pair: &str) -> bool {
        self.query.as_deref().is_some_and(|name| decoded_name(pair) == name)
    }

    /// The header to forward: unchanged, without its token, or none.
    pub(crate) fn strip_header<'a>(
        &self,
        name: &HeaderName,
        value: &'a HeaderValue,
    ) -> Option<Cow<'a, HeaderValue>> {
        if *name == self.header && self.token_in_header(value).is_some() {
            return None;
        }
        let Some(cookie) = self.cookie.as_ref().filter(|_| *name == COOKIE) else {
            return Some(Cow::Borrowed(value));
        };
        without_cookie(value, cookie)
    }
}

/// The only item, or none; two are an error.
fn at_most_one<T>(mut all: impl Iterator<Item = T>) -> Result<Option<T>, JwtRejection> {
    let first = all.next();
    if all.next().is_some() { Err(JwtRejection::Repeated) } else { Ok(first) }
}
