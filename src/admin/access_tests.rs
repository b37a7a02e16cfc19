//! The order and the exceptions of the checks.

use actix_web::test::TestRequest;

use super::*;

fn access() -> AdminAccess {
    let mut config = AdminConfig::default();
    config.hosts = vec!["prometheus.test".to_owned()];
    AdminAccess::new(&config, clock::now()).unwrap()
}

fn checked_by(
    access: &AdminAccess,
    connection: AdminConnection,
    method: Method,
    uri: &str,
    headers: &[(&str, &str)],
) -> Result<(), AdminRejection> {
    let mut request = TestRequest::default().method(method).uri(uri);
    for pair in headers {
        request = request.append_header(*pair);
    }
    let head = request.to_srv_request();
    access.check(head.head(), connection, clock::now()).map(|_| ()).map_err(|rejected| rejected.rejection)
}

fn checked(method: Method, uri: &str, headers: &[(&str, &str)]) -> Result<(), AdminRejection> {
    checked_by(&access(), AdminConnection::default(), method, uri, headers)
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
    let post =
        |name, value| checked(Method::POST, "/requests/crash", &[("host", "127.0.0.1:8090"), (name, value)]);
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

/// X3: a connection of the reserve serves probes and the status alone, or leaves the reserve as an event stream
#[test]
fn the_reserve_serves_probes_and_the_status() {
    let access = access();
    let reserve = AdminConnection { is_reserve: true, has_certificate: false };
    let get = |path| checked_by(&access, reserve, Method::GET, path, &[("host", "localhost")]);
    for path in ["/status", "/status/stream", "/livez", "/readyz", "/-/livez", "/-/readyz"] {
        assert_eq!(get(path), Ok(()), "{path}");
    }
    for path in ["/metrics", "/", "/status/history", "/session"] {
        assert_eq!(get(path), Err(AdminRejection::TooManyConnections), "{path}");
    }
}

/// O5: a body beyond the maximum is refused by its declared length
#[test]
fn a_long_body_is_refused() {
    let post = |length| {
        checked(Method::POST, "/requests/crash", &[("host", "localhost"), ("content-length", length)])
    };
    assert_eq!(post("65536"), Ok(()));
    for length in ["65537", "18446744073709551615"] {
        assert_eq!(post(length), Err(AdminRejection::BodyTooLarge(BODY_BYTES_MAX)), "{length}");
    }
}
