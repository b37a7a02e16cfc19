//! CORS (A6): preflights and the CORS headers of responses.
//!
//! In a bucket with rules (`cors`) the gateway answers a preflight without a call upstream: a preflight has no
//! credentials and depends on the rules alone. Refusals are S3's: 403 `AccessForbidden`, 400 for missing headers. On
//! every other response, the gateway's errors included, the rules set the CORS headers; the upstream's are dropped,
//! because the upstream has other rules and another name for the bucket. In an `s3` bucket without rules the store
//! answers preflights (`cors_preflight.rs`), and its CORS headers pass. CORS is not access control: a request from a
//! forbidden origin is served, and the browser hides the response from the page. Every response of such a bucket has
//! `Vary: Origin`, because a cache must not serve the response for one origin to another.
//!
//! Sources: Fetch Standard (CORS protocol), S3 User Guide "Using cross-origin resource sharing". Patterns of origins
//! and private network access are not supported.

use actix_web::HttpResponse;
use actix_web::http::Method;
use actix_web::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderName, HeaderValue,
    ORIGIN, VARY,
};
use tidegate_config::CorsConfig;
use tidegate_s3::request::BodyLength;

use crate::http::error::preflight_reply;

/// Why a preflight is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CorsRejection {
    /// This header is missing or repeated.
    Missing(HeaderName),
    /// It has a body.
    Body,
    /// The store already has the most preflights that it may have.
    Full {
        /// The limit.
        limit: usize,
    },
    /// The rules do not allow this part of the preflight.
    NotAllowed(&'static str),
}

/// Checks that an OPTIONS request for the store is a preflight (Fetch Standard, "CORS-preflight request").
pub(crate) fn check_preflight(headers: &HeaderMap, length: BodyLength) -> Result<(), CorsRejection> {
    for name in [ORIGIN, ACCESS_CONTROL_REQUEST_METHOD] {
        single_value(headers, &name).ok_or(CorsRejection::Missing(name))?;
    }
    if length == BodyLength::Empty { Ok(()) } else { Err(CorsRejection::Body) }
}

/// Replies to a preflight. [`headers_for`] adds the allowed origin, as on every response.
pub(crate) fn preflight_response(
    rules: &CorsConfig,
    headers: &HeaderMap,
) -> Result<HttpResponse, CorsRejection> {
    let required = |name: HeaderName| single_value(headers, &name).ok_or(CorsRejection::Missing(name));
    if !allows_origin(rules, required(ORIGIN)?) {
        return Err(CorsRejection::NotAllowed("origin"));
    }
    if !allows_method(rules, required(ACCESS_CONTROL_REQUEST_METHOD)?) {
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

/// Builds the CORS headers of a response by the rules for the request's origin; none for an origin that is not allowed.
pub(crate) fn headers_for(
    rules: &CorsConfig,
    method: &Method,
    headers: &HeaderMap,
) -> Vec<(HeaderName, HeaderValue)> {
    let is_preflight = method == Method::OPTIONS;
    let method = if is_preflight {
        single_value(headers, &ACCESS_CONTROL_REQUEST_METHOD)
    } else {
        Some(method.as_str())
    };
    let origin = single_value(headers, &ORIGIN).filter(|origin| allows_origin(rules, origin));
    let (Some(origin), true) = (origin, method.is_some_and(|method| allows_method(rules, method))) else {
        return Vec::new();
    };
    let origin = if rules.allowed_origins.is_none() { "*" } else { origin };
    let mut fields = vec![(ACCESS_CONTROL_ALLOW_ORIGIN, origin.to_owned())];
    if rules.allow_credentials {
        fields.push((ACCESS_CONTROL_ALLOW_CREDENTIALS, "true".to_owned()));
    }
    if !is_preflight && !rules.exposed_headers.is_empty() {
        fields.push((ACCESS_CONTROL_EXPOSE_HEADERS, rules.exposed_headers.join(", ")));
    }
    fields.into_iter().filter_map(|(name, value)| Some((name, value.try_into().ok()?))).collect()
}

/// Adds CORS headers and `Vary: Origin` to a response.
pub(crate) fn apply(fields: Vec<(HeaderName, HeaderValue)>, headers: &mut HeaderMap) {
    vary_by_origin(headers);
    for (name, value) in fields {
        headers.insert(name, value);
    }
}

/// The value of a header that occurs exactly once.
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

/// The headers that the preflight requests, in lower case; `None` if the list is malformed.
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

/// All values are visible ASCII: names from the configuration and numbers.
fn insert_text(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
