//! `POST /explain`: a made-up request as JSON, and the steps that it would pass now.
//!
//! The body is `{"method": …, "url": …, "headers": {…}, "client": …}`. Every fault names its field and what it accepts.

use std::net::IpAddr;

use actix_web::http::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, Uri};
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::decisions::Names;
use crate::decisions::decision::Figures;
use crate::http::explain::{Explanation, ExplanationStep, MadeUpRequest, Refusal};
use crate::telemetry::escape_controls;

/// The largest body.
pub(super) const BODY_BYTES_MAX: usize = 64 << 10;
/// The most headers, as the HTTP parser of the data listener.
const HEADERS_MAX: usize = 96;
const FIELDS: [&str; 4] = ["method", "url", "headers", "client"];
/// The host of a request without one.
const DEFAULT_HOST: HeaderValue = HeaderValue::from_static("localhost");

/// A body that is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum InvalidBody {
    #[error("the body has more than {BODY_BYTES_MAX} bytes")]
    TooLarge,
    #[error("the body is incomplete or its framing is malformed")]
    Framing,
    #[error("the body is not a JSON object: {0}")]
    Json(String),
    #[error("there is no field `{name}`; the fields are {}", FIELDS.join(", "))]
    Unknown { name: String },
    #[error("the field `{0}` is missing")]
    Missing(&'static str),
    #[error("the field `{name}` {fault}")]
    Invalid { name: &'static str, fault: &'static str },
}

fn invalid(name: &'static str, fault: &'static str) -> InvalidBody {
    InvalidBody::Invalid { name, fault }
}

/// Parses the body.
pub(super) fn parse(body: &[u8]) -> Result<MadeUpRequest, InvalidBody> {
    if body.len() > BODY_BYTES_MAX {
        return Err(InvalidBody::TooLarge);
    }
    let parsed: Map<String, Value> =
        serde_json::from_slice(body).map_err(|error| InvalidBody::Json(error.to_string()))?;
    if let Some(name) = parsed.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        let name = name.chars().take(64).collect();
        return Err(InvalidBody::Unknown { name });
    }
    let text = |name: &'static str| match parsed.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(invalid(name, "is not a text")),
    };
    let method = text("method")?.unwrap_or("GET");
    let method = Method::from_bytes(method.as_bytes())
        .map_err(|_| invalid("method", "is not a method such as GET"))?;
    let url = text("url")?.ok_or(InvalidBody::Missing("url"))?;
    let uri: Uri = url
        .parse()
        .map_err(|_| invalid("url", "is not a path such as /photos/cat.jpg, or an http URL with its host"))?;
    let client = text("client")?.map(str::parse::<IpAddr>).transpose();
    let client = client.map_err(|_| invalid("client", "is not an IP address"))?.map(|ip| ip.to_canonical());
    let mut headers = parse_headers(parsed.get("headers"))?;
    if !headers.contains_key(HOST) {
        let host = uri.authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok());
        headers.insert(HOST, host.unwrap_or(DEFAULT_HOST));
    }
    Ok(MadeUpRequest { method, uri, headers, client })
}

/// Headers by name; a list of texts repeats a header.
fn parse_headers(value: Option<&Value>) -> Result<HeaderMap, InvalidBody> {
    let fault = || invalid("headers", "is not an object of header names with a text or a list of texts each");
    let mut headers = HeaderMap::new();
    let fields = match value {
        None | Some(Value::Null) => return Ok(headers),
        Some(Value::Object(fields)) => fields,
        Some(_) => return Err(fault()),
    };
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| fault())?;
        let values = match value {
            Value::Array(values) => values.iter().collect(),
            one => vec![one],
        };
        for value in values {
            let text = value.as_str().ok_or_else(fault)?;
            headers.append(name.clone(), HeaderValue::from_str(text).map_err(|_| fault())?);
        }
    }
    if headers.len() > HEADERS_MAX { Err(invalid("headers", "has more than 96 values")) } else { Ok(headers) }
}

/// The explanation as JSON.
pub(super) fn document(names: &Names, explanation: &Explanation) -> Value {
    let refusal = explanation.steps.iter().find_map(|step| step.refusal.as_ref());
    json!({
        "outcome": explanation.outcome(),
        "bucket": explanation.bucket_name,
        "steps": explanation.steps.iter().map(step).collect::<Vec<_>>(),
        "refusal": refusal.map(|refusal| refusal_json(names, refusal)),
    })
}

fn step(step: &ExplanationStep) -> Value {
    let limit = step.limit.as_ref().map(|limit| {
        json!({
            "scope": limit.status.scope.as_str(),
            "remaining": limit.status.remaining,
            "burst": limit.status.burst,
            "cost": limit.cost,
            "fits": limit.fits,
            "shadow": limit.is_shadow,
        })
    });
    // A sentence may have text of the request.
    let sentence = escape_controls(&step.sentence);
    json!({ "step": step.step, "result": step.result.as_str(), "sentence": sentence, "limit": limit })
}

fn refusal_json(names: &Names, refusal: &Refusal) -> Value {
    let facts = &refusal.facts;
    let Figures { scope, measured, threshold, unit, until, .. } = facts.figures;
    let key = names.threshold_key(facts);
    json!({
        "status": refusal.status,
        "reason": facts.reason,
        "scope": scope.as_str(),
        "measured": measured,
        "threshold": threshold,
        "unit": unit.map(|unit| unit.as_str()),
        "until_ms": until.map(crate::telemetry::millis),
        "config": key.map(|key| json!({ "key": key.key, "origin": key.origin_kind(), "source": key.source() })),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(body: &str) -> String {
        parse(body.as_bytes()).err().unwrap().to_string()
    }

    /// O6: only the URL is required
    #[test]
    fn a_request_has_defaults() {
        let request = parse(br#"{"url":"/b/k?x=1"}"#).unwrap();
        assert_eq!((request.method, request.uri.path(), request.client), (Method::GET, "/b/k", None));
        assert_eq!(request.headers.get(HOST), Some(&DEFAULT_HOST));
        let request =
            parse(br#"{"url":"http://s3.test/b","headers":{"X-A":["1","2"]},"client":"::ffff:10.0.0.1"}"#)
                .unwrap();
        assert_eq!(request.headers.get(HOST).unwrap(), "s3.test");
        assert_eq!(request.headers.get_all("x-a").count(), 2);
        assert_eq!(request.client, Some("10.0.0.1".parse().unwrap()));
    }

    /// O6: a fault is named
    #[test]
    fn a_malformed_body_is_named() {
        for (body, named) in [
            ("", "not a JSON object"),
            ("[]", "not a JSON object"),
            ("{\"url\":\"/b\",\"colour\":1}", "`colour`"),
            ("{}", "`url` is missing"),
            ("{\"url\":7}", "`url` is not a text"),
            ("{\"url\":\"a b\"}", "`url` is not a path"),
            ("{\"url\":\"/b\",\"method\":\"GE T\"}", "`method`"),
            ("{\"url\":\"/b\",\"client\":\"me\"}", "`client` is not an IP address"),
            ("{\"url\":\"/b\",\"headers\":[]}", "`headers`"),
            ("{\"url\":\"/b\",\"headers\":{\"a\":1}}", "`headers`"),
            ("{\"url\":\"/b\",\"headers\":{\"a b\":\"1\"}}", "`headers`"),
            ("{\"url\":\"/b\",\"headers\":{\"a\":\"1\\n2\"}}", "`headers`"),
        ] {
            assert!(error(body).contains(named), "{body}: {}", error(body));
        }
        let long = format!("{{\"url\":\"/{}\"}}", "x".repeat(BODY_BYTES_MAX));
        assert!(error(&long).contains("65536 bytes"));
    }
}
