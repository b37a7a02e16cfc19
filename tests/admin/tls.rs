//! TLS and client certificates on the admin listener.

use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::{OPERATOR, READER, bearer, builder, code, with_tokens};
use crate::https::{Identity, server_certificate};
use crate::support::client::message;
use crate::support::gateway::Builder;
use crate::support::{Client, Gateway, Response, Upstream, request};

async fn connect(identity: &Identity, client: Option<&Identity>, gateway: &Gateway) -> TlsStream<TcpStream> {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], gateway.admin_address().port()));
    let stream = TcpStream::connect(address).await.unwrap();
    identity.tls_handshake_as(client, stream, &["http/1.1"]).await
}

async fn send(
    (identity, client): (&Identity, Option<&Identity>),
    gateway: &Gateway,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
) -> Option<Response> {
    let mut connection = Client::new(connect(identity, client, gateway).await);
    let _ = connection.try_send(message(method, target, headers, None)).await;
    connection.try_response(method).await
}

/// A7, O5: with a certificate the admin listener accepts TLS only, tokens work over it, and the cookie is for TLS only
#[tokio::test]
async fn tokens_work_over_tls() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let gateway = identity.named_for_admin(with_tokens(&upstream)).start().await;
    let (operate, read) = (bearer(OPERATOR), bearer(READER));
    for (target, headers, status) in [
        ("/status", vec![], 401),
        ("/status", vec![("authorization", read.as_str())], 200),
        ("/metrics", vec![("authorization", operate.as_str())], 200),
        ("/livez", vec![], 200),
    ] {
        let answer = send((&identity, None), &gateway, "GET", target, &headers).await.unwrap();
        assert_eq!(answer.complete_status(), status, "{target} {headers:?}");
    }
    let login =
        send((&identity, None), &gateway, "POST", "/session", &[("authorization", &operate)]).await.unwrap();
    let cookie = login.header("set-cookie").unwrap();
    assert!(cookie.ends_with("; Secure"), "{cookie}");
    let pair = cookie.split(';').next().unwrap();
    for (origin, expected) in [("https://gateway.test", "chaos_off"), ("http://gateway.test", "cross_site")] {
        let headers = [("cookie", pair), ("origin", origin)];
        let answer = send((&identity, None), &gateway, "POST", "/requests/crash", &headers).await.unwrap();
        assert_eq!(code(&answer), expected, "{origin}");
    }
    let mut cleartext = Client::connect(gateway.admin_address()).await;
    cleartext.send(message("GET", "/livez", &[], None)).await;
    assert!(cleartext.try_response("GET").await.is_none(), "cleartext gets no answer");
}

/// A gateway with mutual TLS on the admin listener, on any address.
fn mutual(identity: &Identity, clients: &Identity, upstream: &Upstream) -> Builder {
    identity
        .named_for_admin(builder(upstream))
        .set("admin.tls.client_ca_file", &clients.authority_file())
        .set("admin.address", "0.0.0.0")
}

/// A7, O5: with mutual TLS a client of the authority is an operator on an open address, and other clients cannot connect,
/// not even with a token
#[tokio::test]
async fn a_client_certificate_is_an_operators() {
    let (identity, clients, strangers) = (Identity::new(), Identity::new(), Identity::new());
    let upstream = Upstream::ok("x");
    for has_tokens in [false, true] {
        let start = mutual(&identity, &clients, &upstream);
        let start = if has_tokens {
            start.set("admin.token", OPERATOR).set("admin.read_token", READER)
        } else {
            start
        };
        let gateway = start.start().await;
        let known = (&identity, Some(&clients));
        for target in ["/status", "/metrics", "/livez", "/readyz"] {
            let answer = send(known, &gateway, "GET", target, &[]).await.unwrap();
            assert_eq!(answer.complete_status(), 200, "{target}");
        }
        let post = send(known, &gateway, "POST", "/requests/crash", &[]).await.unwrap();
        assert_eq!(code(&post), "chaos_off", "an operator reaches the command");
        let foreign = [("origin", "https://evil.test")];
        let post = send(known, &gateway, "POST", "/requests/crash", &foreign).await.unwrap();
        assert_eq!(code(&post), "cross_site", "a page of another origin has the browser's certificate too");
        for stranger in [None, Some(&strangers)] {
            for (target, headers) in
                [("/status", vec![("authorization", bearer(OPERATOR))]), ("/livez", vec![])]
            {
                let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
                let answer = send((&identity, stranger), &gateway, "GET", target, &headers).await;
                assert!(answer.is_none(), "{target}: {answer:?}");
            }
        }
        gateway.wait_for_log_line("request", |line| line["reason"] == "tls_handshake").await;
        let probe = request(gateway.address(), "GET", "/-/livez", &[], None).await;
        assert_eq!(probe.complete_status(), 200, "the data listener has the probes");
    }
}

/// O5: a client certificate allows every command, whatever token or cookie the request has besides
#[tokio::test]
async fn a_client_certificate_needs_no_token() {
    let (identity, clients, upstream) = (Identity::new(), Identity::new(), Upstream::ok("x"));
    let gateway = mutual(&identity, &clients, &upstream)
        .set("admin.address", "127.0.0.1")
        .set("admin.token", OPERATOR)
        .set("admin.read_token", READER)
        .chaos()
        .start()
        .await;
    let (read, wrong) = (bearer(READER), bearer("wrong-0123456789abcdef0123456789ab"));
    for headers in [
        vec![],
        vec![("authorization", read.as_str())],
        vec![("authorization", wrong.as_str())],
        vec![("cookie", "tidegate_admin=AAAA")],
    ] {
        let known = (&identity, Some(&clients));
        let answer = send(known, &gateway, "GET", "/status", &headers).await.unwrap();
        assert_eq!(answer.complete_status(), 200, "{headers:?}");
        let posted = send(known, &gateway, "POST", "/requests/crash", &headers).await.unwrap();
        assert_eq!(posted.complete_status(), 202, "{headers:?}");
        assert_eq!(gateway.get("/b/k").await.complete_status(), 500, "{headers:?}: a request crashes");
    }
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
}

/// A7: SIGHUP reloads certificate, key and authorities of the admin listener
#[tokio::test]
async fn the_files_are_reloaded() {
    let (identity, clients, others) = (Identity::new(), Identity::new(), Identity::new());
    let upstream = Upstream::ok("x");
    let gateway =
        mutual(&identity, &clients, &upstream).set("admin.tls.reload_interval", "3600").start().await;
    let target = "/status";
    assert!(send((&identity, Some(&others)), &gateway, "GET", target, &[]).await.is_none());
    identity.renew();
    let (from, to) = (others.authority_file(), clients.authority_file());
    std::fs::copy(from, to).unwrap();
    gateway.send_sighup();
    gateway.wait_for_log_line("certificate reloaded", |_| true).await;
    let answer = send((&identity, Some(&others)), &gateway, "GET", target, &[]).await.unwrap();
    assert_eq!(answer.complete_status(), 200);
    assert!(send((&identity, Some(&clients)), &gateway, "GET", target, &[]).await.is_none());
    let shown = server_certificate(&connect(&identity, Some(&others), &gateway).await);
    assert_eq!(shown, identity.certificate());
}

/// A7, G1, Bad input: unusable TLS files are start-up errors with their keys
#[test]
fn invalid_files_are_start_up_errors() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let directory = crate::support::Scratch::new();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let damaged = file("damaged.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let empty = file("empty.pem", "");
    for (key, value, words) in [
        ("admin.tls.certificate_file", damaged.as_str(), ["admin.tls.certificate_file", "damaged.pem"]),
        ("admin.tls.certificate_file", "/nowhere.pem", ["admin.tls.certificate_file", "cannot be read"]),
        ("admin.tls.private_key_file", "/nowhere.pem", ["admin.tls.private_key_file", "cannot be read"]),
        ("admin.tls.client_ca_file", damaged.as_str(), ["admin.tls.client_ca_file", "damaged.pem"]),
        ("admin.tls.client_ca_file", empty.as_str(), ["admin.tls.client_ca_file", "has no certificate"]),
    ] {
        for argument in [None, Some("check")] {
            let start = identity.named_for_admin(builder(&upstream)).set(key, value);
            let ended = argument.into_iter().fold(start, |start, argument| start.argument(argument)).run();
            assert_eq!(ended.code, Some(78), "{key}={value}: {ended:?}");
            assert!(words.iter().all(|word| ended.stderr.contains(word)), "{words:?} in {}", ended.stderr);
        }
    }
    let ca = identity.authority_file();
    let ended = builder(&upstream).set("admin.tls.client_ca_file", &ca).set("admin.address", "0.0.0.0").run();
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.stderr.contains("set admin.tls.certificate_file too"), "{}", ended.stderr);
}

/// G4: `tidegate health` probes a listener with TLS, and the data listener if the admin listener demands certificates
#[tokio::test]
async fn health_works_with_tls() {
    let (identity, clients, upstream) = (Identity::new(), Identity::new(), Upstream::ok("x"));
    for is_mutual in [false, true] {
        for has_data_tls in [false, true] {
            let configured = |start: Builder| {
                let start = identity.named_for_admin(start);
                let start = if has_data_tls { identity.named(start) } else { start };
                if is_mutual {
                    start.set("admin.tls.client_ca_file", &clients.authority_file())
                } else {
                    start
                }
            };
            let gateway = configured(builder(&upstream)).start().await;
            let check = |data: u16, admin: u16| {
                let start = configured(Gateway::builder());
                let start = start.set("server.port", &data.to_string()).set("admin.port", &admin.to_string());
                tokio::task::spawn_blocking(move || start.argument("health").run())
            };
            let (data, admin) = (gateway.address().port(), gateway.admin_address().port());
            let alive = check(data, admin).await.unwrap();
            assert_eq!((alive.code, alive.stderr.as_str()), (Some(0), ""), "{is_mutual} {has_data_tls}");
            let nobody = crate::support::unreachable::RefusingAddress::new();
            let port = nobody.address.port();
            let dead = if is_mutual { check(port, admin) } else { check(data, port) }.await.unwrap();
            assert_eq!(dead.code, Some(1), "{is_mutual} {has_data_tls}: {}", dead.stderr);
        }
    }
}
