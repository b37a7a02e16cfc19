//! The rate limit headers of responses: the exhausted limit, the remaining tokens, and the limits in shadow mode.
//!
//! Fields and parameters are those of draft-ietf-httpapi-ratelimit-headers-11, lists of RFC 9651 strings with
//! parameters: `RateLimit-Policy: "ip";q=100;w=1` for the quota of a limit, `RateLimit: "ip";r=0;t=3` for the rest
//! (`r`, in tokens, as `q`) and the seconds until more is available (`t`). On a refusal `t` is the time until this
//! request fits, so `Retry-After` is never earlier (draft, "Providing RateLimit fields"). An upstream's own fields
//! stay: they are lists, and these are further members.
//!
//! `pk`, the partition, is not sent. It would reveal the client's address or key to everyone who sees the response,
//! and a client has one partition of each limit.

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use tidegate_actors::{Allowed, LimitScope, LimitStatus};

use crate::http::error::whole_seconds;

const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// The header with the reasons of the limits and actions in shadow mode that would have refused a request.
const SHADOW: HeaderName = HeaderName::from_static("x-tidegate-shadow");

/// The reason of a refusal by this limit in header, log and metric.
pub(crate) fn reason(scope: LimitScope) -> &'static str {
    match scope {
        LimitScope::Global => "rate_limit_global",
        LimitScope::Ip => "rate_limit_ip",
        LimitScope::Bucket => "rate_limit_bucket",
        LimitScope::Key => "rate_limit_key",
        LimitScope::Subject => "rate_limit_subject",
        LimitScope::FailedAuth => "rate_limit_failed_auth",
    }
}

/// Adds the headers of the limits that allowed the request. `shadowed`: reasons of other limits and actions in shadow mode.
pub(crate) fn write_headers(allowed: &Allowed, mut shadowed: Vec<&'static str>, headers: &mut HeaderMap) {
    if let Some(tightest) = &allowed.tightest {
        write_allowance(tightest, headers);
    }
    if !allowed.shadowed.is_empty() || !shadowed.is_empty() {
        shadowed.extend(allowed.shadowed.iter().map(|limit| reason(limit.scope)));
        append_text(headers, SHADOW, &shadowed.join(", "));
    }
}

/// Adds the quota and the rest of a limit.
pub(crate) fn write_allowance(allowance: &LimitStatus, headers: &mut HeaderMap) {
    let LimitStatus { scope, burst, requests_per_second, remaining, retry_after } = allowance;
    let scope = scope.as_str();
    let window = (f64::from(*burst) / requests_per_second).ceil().max(1.0);
    append_text(headers, RATELIMIT_POLICY, &format!("\"{scope}\";q={burst};w={window}"));
    let more = whole_seconds(*retry_after);
    append_text(headers, RATELIMIT, &format!("\"{scope}\";r={remaining};t={more}"));
}

fn append_text(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.append(name, value);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn text(headers: &HeaderMap, name: HeaderName) -> &str {
        headers.get(name).unwrap().to_str().unwrap()
    }

    /// L1: limits are written as in the draft: identifiers in quotes, whole numbers, whole seconds, at least one of
    /// them
    #[test]
    fn a_limit_is_written_as_structured_fields() {
        for (burst, requests_per_second, remaining, after_ms, policy, rest) in [
            (100, 100.0, 99, 10, "\"ip\";q=100;w=1", "\"ip\";r=99;t=1"),
            (3, 0.001, 0, 1_000_000, "\"ip\";q=3;w=3000", "\"ip\";r=0;t=1000"),
            (10, 3.0, 7, 1_001, "\"ip\";q=10;w=4", "\"ip\";r=7;t=2"),
            (10_000_000, 0.001, 0, 0, "\"ip\";q=10000000;w=10000000000", "\"ip\";r=0;t=1"),
        ] {
            let retry_after = Duration::from_millis(after_ms);
            let allowance =
                LimitStatus { scope: LimitScope::Ip, burst, requests_per_second, remaining, retry_after };
            let mut headers = HeaderMap::new();
            write_allowance(&allowance, &mut headers);
            assert_eq!((text(&headers, RATELIMIT_POLICY), text(&headers, RATELIMIT)), (policy, rest));
        }
    }

    /// L6
    #[test]
    fn shadows_are_named_by_their_reasons() {
        let mut headers = HeaderMap::new();
        write_headers(&Allowed::default(), Vec::new(), &mut headers);
        assert!(headers.is_empty());
        let status = |scope| LimitStatus {
            scope,
            burst: 1,
            requests_per_second: 1.0,
            remaining: 0,
            retry_after: Duration::from_secs(1),
        };
        let shadowed = vec![status(LimitScope::Global), status(LimitScope::Key)];
        write_headers(&Allowed { shadowed, tightest: None }, vec!["client_concurrency"], &mut headers);
        assert_eq!(text(&headers, SHADOW), "client_concurrency, rate_limit_global, rate_limit_key");
    }
}
