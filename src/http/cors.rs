//! Pages of other origins (A6): preflights, and what an answer says about who may read it.
//!
//! In a bucket with rules (`cors`) a preflight is answered here, without a call upstream: it carries no proof of identity and
//! asks only about rules. Its refusals are S3's: 403 `AccessForbidden`, 400 without its headers. On any other answer, the gateway's
//! own errors included, the rules decide what a script may read; the upstream's own CORS headers are dropped, for they
//! follow other rules and know another name for the bucket. In an `s3` bucket without rules the store answers preflights
//! (`preflight.rs`), and its CORS headers pass. CORS is no guard: a request from an origin that is not allowed is
//! served, and the browser keeps the answer from the page. `Vary: Origin` stands on every answer of such a bucket, or a
//! cache would hand the answer for one origin to another.
//!
//! Sources: Fetch Standard (CORS protocol), S3 User Guide "Using cross-origin resource sharing".
//! Deliberately absent: patterns over origins, and private network access.

use actix_web::HttpResponse;
use actix_web::http::Method;
use actix_web::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderName, HeaderValue,
    ORIGIN, VARY,
};
use tidegate_config::CorsConfig;

use crate::http::error::preflight_reply;
use crate::http::request_validation::BodyLength;

/// Why a preflight is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CorsRejection {
    /// It lacks this header, or has it twice.
    Missing(HeaderName),
    /// It has a body.
    Body,
    /// As many preflights as may be at the store are there.
    Full {
        /// How many.
        limit: usize,
    },
    /// The rules do not allow it this.
    NotAllowed(&'static str),
}

/// Checks that an OPTIONS request is a preflight (Fetch Standard, "CORS-preflight request"), which the store is to answer.
pub(crate) fn check_preflight(headers: &HeaderMap, length: BodyLength) -> Result<(), CorsRejection> {
    for name in [ORIGIN, ACCESS_CONTROL_REQUEST_METHOD] {
        single_value(headers, &name).ok_or(CorsRejection::Missing(name))?;
    }
    if length == BodyLength::Empty { Ok(()) } else { Err(CorsRejection::Body) }
}

/// Answers a preflight. Whom it allows is said by `Sharing`, as on every answer.
pub(crate) fn preflight_response(
    rules: &CorsConfig,
    headers: &HeaderMap,
) -> Result<HttpResponse, CorsRejection> {
    let needed = |name: HeaderName| single_value(headers, &name).ok_or(CorsRejection::Missing(name));
    if !allows_origin(rules, needed(ORIGIN)?) {
        return Err(CorsRejection::NotAllowed("origin"));
    }
    if !allows_method(rules, needed(ACCESS_CONTROL_REQUEST_METHOD)?) {
        return Err(CorsRejection::NotAllowed("method"));
    }
    let requested = requested_headers(headers).ok_or(CorsRejection::NotAllowed("header"))?;
    let allows =
        |name: &str| rules.allowed_headers.as_ref().is_none_or(|names| names.iter().any(|each| each == name));
    if !requested.iter().all(|name| allows(name)) {
        return Err(CorsRejection::NotAllowed("header"));
    }
    let mut response = preflight_reply();
    let response_headers = response.headers_mut();
    insert_text(response_headers, ACCESS_CONTROL_ALLOW_METHODS, &rules.allowed_methods.join(", "));
    if !requested.is_empty() {
        insert_text(response_headers, ACCESS_CONTROL_ALLOW_HEADERS, &requested.join(", "));
    }
    insert_text(response_headers, ACCESS_CONTROL_MAX_AGE, &rules.max_age_seconds.to_string());
    Ok(response)
}

/// What the answer to one request says about who may read it.
pub(crate) struct CorsHeaders(Vec<(HeaderName, HeaderValue)>);

impl CorsHeaders {
    /// By the rules, for the origin that asks; one that is not allowed is told nothing.
    pub(crate) fn of(rules: &CorsConfig, method: &Method, headers: &HeaderMap) -> Self {
        let is_preflight = method == Method::OPTIONS;
        let asked = if is_preflight {
            single_value(headers, &ACCESS_CONTROL_REQUEST_METHOD)
        } else {
            Some(method.as_str())
        };
        let origin = single_value(headers, &ORIGIN).filter(|origin| allows_origin(rules, origin));
        let (Some(origin), true) = (origin, asked.is_some_and(|method| allows_method(rules, method))) else {
            return Self(Vec::new());
        };
        let origin = if rules.allowed_origins.is_none() { "*" } else { origin };
        let mut fields = vec![(ACCESS_CONTROL_ALLOW_ORIGIN, origin.to_owned())];
        if rules.allow_credentials {
            fields.push((ACCESS_CONTROL_ALLOW_CREDENTIALS, "true".to_owned()));
        }
        if !is_preflight && !rules.exposed_headers.is_empty() {
            fields.push((ACCESS_CONTROL_EXPOSE_HEADERS, rules.exposed_headers.join(", ")));
        }
        Self(fields.into_iter().filter_map(|(name, value)| Some((name, value.try_into().ok()?))).collect())
    }

    /// Says it.
    pub(crate) fn apply(self, headers: &mut HeaderMap) {
        vary_by_origin(headers);
        for (name, value) in self.0 {
            headers.insert(name, value);
        }
    }
}

/// A header's value, if there is exactly one.
fn single_value<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name);
    let (value, None) = (values.next()?, values.next()) else { return None };
    value.to_str().ok()
}

fn allows_origin(rules: &CorsConfig, origin: &str) -> bool {
    rules.allowed_origins.as_ref().is_none_or(|origins| origins.iter().any(|each| each == origin))
}

fn allows_method(rules: &CorsConfig, method: &str) -> bool {
    rules.allowed_methods.contains(&method)
}

/// The headers that a script wants to send, in lower case; none if the list is not readable.
fn requested_headers(headers: &HeaderMap) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for value in headers.get_all(ACCESS_CONTROL_REQUEST_HEADERS) {
        let listed = value.to_str().ok()?.split(',').map(str::trim).filter(|name| !name.is_empty());
        for name in listed {
            names.push(HeaderName::try_from(name).ok()?.as_str().to_owned());
        }
    }
    Some(names)
}

fn vary_by_origin(headers: &mut HeaderMap) {
    let vary = headers.get_all(VARY).filter_map(|value| value.to_str().ok());
    let varies =
        vary.flat_map(|value| value.split(',')).any(|name| matches!(name.trim(), "*" | "Origin" | "origin"));
    if !varies {
        headers.append(VARY, HeaderValue::from_static("Origin"));
    }
}

/// Everything that is put is of visible ASCII: names from the configuration and numbers.
fn insert_text(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
