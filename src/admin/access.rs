//! Refuses requests of web pages to the admin listener, which has no authentication.
//!
//! DNS rebinding: a page resolves its own name to the listener's address and sends requests with that name. So `Host`
//! must be an address, `localhost` or one of `admin.hosts`. A page can also send a POST to any address without
//! reading the response. So a POST with a foreign `Origin` or with `Sec-Fetch-Site: cross-site` (W3C Fetch Metadata)
//! is refused. Probes accept any `Host`: load balancers send their own, and the responses hold no secret.

use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;

use actix_web::Error;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{RequestHead, ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{HOST, HeaderName, HeaderValue, ORIGIN};
use actix_web::middleware::Next;
use actix_web::web::Data;

use crate::http::error::{AdminStatus, admin_error_reply};
use crate::http::probes::{LIVE, READY, is_plain_check};
use crate::http::request_id;
use crate::worker::Worker;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const PROBES: [&str; 4] = ["/livez", "/readyz", LIVE, READY];

/// Why a request was refused.
#[derive(Debug, PartialEq, Eq)]
enum AdminRejection {
    /// Its `Host` is not a name or an address of the listener.
    Host,
    /// A page of another origin sent it.
    CrossSite,
}

/// Refuses requests that a web page may have sent.
pub(crate) async fn guard(
    worker: Data<Rc<Worker>>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let refusal = match check(request.head(), &worker.shared.config.admin.hosts) {
        Ok(()) => return next.call(request).await.map(ServiceResponse::map_into_boxed_body),
        Err(refusal) => refusal,
    };
    let (code, message) = match refusal {
        AdminRejection::Host => (
            "host_not_allowed",
            "the host header must be an address, localhost, or a name that admin.hosts lists",
        ),
        AdminRejection::CrossSite => ("cross_site", "requests from pages of another origin are refused"),
    };
    let id = request_id::of(request.headers());
    let response = admin_error_reply(AdminStatus::Forbidden, code, message, &id);
    Ok(request.into_response(response))
}

fn check(head: &RequestHead, hosts: &[String]) -> Result<(), AdminRejection> {
    let mut host_values = head.headers.get_all(HOST);
    let host =
        host_values.next().and_then(|host| host.to_str().ok()).filter(|_| host_values.next().is_none());
    let path = head.uri.path();
    let is_probe = PROBES.contains(&path) || is_plain_check(&head.method, path, &head.headers);
    let is_own = |host: &str| is_listener_host(host, hosts);
    let target = head.uri.authority().map(|authority| authority.as_str());
    let names_listener = host.is_some_and(is_own) && target.is_none_or(is_own);
    if !is_probe && !names_listener {
        return Err(AdminRejection::Host);
    }
    if matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    let is_same = |origin: &HeaderValue| {
        let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        origin.zip(host).is_some_and(|((_, authority), host)| authority.eq_ignore_ascii_case(host))
    };
    let is_cross = |site: &HeaderValue| site.as_bytes().trim_ascii().eq_ignore_ascii_case(b"cross-site");
    let is_foreign =
        !head.headers.get_all(ORIGIN).all(is_same) || head.headers.get_all(SEC_FETCH_SITE).any(is_cross);
    if is_foreign { Err(AdminRejection::CrossSite) } else { Ok(()) }
}

/// Whether a `Host` (RFC 9110, 7.2) is an address, `localhost`, or one of these names. The port is ignored.
fn is_listener_host(host: &str, hosts: &[String]) -> bool {
    let is_port = |rest: &str| {
        rest.is_empty()
            || rest.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
    };
    if let Some(rest) = host.strip_prefix('[') {
        let parts = rest.split_once(']');
        return parts.is_some_and(|(address, rest)| address.parse::<Ipv6Addr>().is_ok() && is_port(rest));
    }
    let (name, port) = host.split_at(host.find(':').unwrap_or(host.len()));
    let name = name.strip_suffix('.').unwrap_or(name);
    is_port(port)
        && (name.parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || hosts.iter().any(|own| own.eq_ignore_ascii_case(name)))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn checked(method: Method, uri: &str, headers: &[(&str, &str)]) -> Result<(), AdminRejection> {
        let mut request = TestRequest::default().method(method).uri(uri);
        for pair in headers {
            request = request.append_header(*pair);
        }
        check(request.to_srv_request().head(), &["prometheus.test".to_owned()])
    }

    /// O5
    #[test]
    fn host_is_an_address_or_a_name_of_the_listener() {
        let get = |host| checked(Method::GET, "/status", &[("host", host)]);
        for own in [
            "127.0.0.1",
            "127.0.0.1:8090",
            "10.1.2.3:1",
            "[::1]",
            "[::1]:8090",
            "localhost",
            "LocalHost:8090",
            "localhost.",
            "prometheus.test",
            "Prometheus.Test:80",
        ] {
            assert_eq!(get(own), Ok(()), "{own}");
        }
        for foreign in [
            "",
            "evil.test",
            "localhost.evil.test",
            "127.0.0.1.evil.test",
            "prometheus.test.evil",
            "127.1",
            "0x7f000001",
            "2130706433",
            "[::1].evil.test",
            "[::1",
            "[evil]",
            "::1",
            "localhost:80.evil",
            "user@localhost",
            "127.0.0.1:x",
        ] {
            assert_eq!(get(foreign), Err(AdminRejection::Host), "{foreign}");
        }
        assert_eq!(checked(Method::GET, "/status", &[]), Err(AdminRejection::Host));
        let two = [("host", "localhost"), ("host", "evil.test")];
        assert_eq!(checked(Method::GET, "/status", &two), Err(AdminRejection::Host));
        let absolute = checked(Method::GET, "http://evil.test/status", &[("host", "localhost")]);
        assert_eq!(absolute, Err(AdminRejection::Host));
        for probe in PROBES {
            assert_eq!(checked(Method::GET, probe, &[("host", "evil.test")]), Ok(()));
            assert_eq!(checked(Method::HEAD, probe, &[]), Ok(()));
        }
        assert_eq!(checked(Method::OPTIONS, "/", &[]), Ok(()), "HAProxy's plain check");
        let preflight = [("host", "evil.test"), ("origin", "https://evil.test")];
        assert_eq!(checked(Method::OPTIONS, "/", &preflight), Err(AdminRejection::Host));
    }

    /// O5
    #[test]
    fn a_post_of_another_origin_is_refused() {
        let post = |name, value| {
            checked(Method::POST, "/requests/crash", &[("host", "127.0.0.1:8090"), (name, value)])
        };
        for (name, value) in [
            ("origin", "http://127.0.0.1:8090"),
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-site", "none"),
            ("accept", "*/*"),
        ] {
            assert_eq!(post(name, value), Ok(()), "{name}: {value}");
        }
        for (name, value) in [
            ("origin", "https://evil.test"),
            ("origin", "null"),
            ("origin", ""),
            ("origin", "http://127.0.0.1:3000"),
            ("origin", "http://127.0.0.1:8090.evil.test"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "Cross-Site "),
        ] {
            assert_eq!(post(name, value), Err(AdminRejection::CrossSite), "{name}: {value}");
        }
        let get = [("host", "localhost"), ("origin", "https://evil.test"), ("sec-fetch-site", "cross-site")];
        assert_eq!(checked(Method::GET, "/status", &get), Ok(()), "the page cannot read the response");
    }
}
