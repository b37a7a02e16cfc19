//! The PROXY protocol: trusted peers, the resulting client address, and invalid headers.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::gateway::Builder;
use crate::support::{Client, Gateway, Upstream, client};

/// The signature and fixed fields of a version 2 header, before the addresses.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

fn trusting(upstream: &Upstream, networks: &str) -> Builder {
    Gateway::builder()
        .bucket("b", upstream)
        .set("server.proxy_protocol", "true")
        .set("server.trusted_proxies", networks)
}

fn line(client: &str) -> Vec<u8> {
    let address: SocketAddr = client.parse().unwrap();
    let (family, here) = if address.is_ipv4() { ("TCP4", "127.0.0.1") } else { ("TCP6", "::1") };
    format!("PROXY {family} {} {here} {} 80\r\n", address.ip(), address.port()).into_bytes()
}

fn block(command: u8, client: &str) -> Vec<u8> {
    let SocketAddr::V4(address) = client.parse().unwrap() else { panic!("IPv4") };
    let body =
        [&address.ip().octets()[..], &[127, 0, 0, 1], &address.port().to_be_bytes(), &[0, 80]].concat();
    [SIGNATURE, &[command, 0x11, 0, 12], &body].concat()
}

/// Sends a request; returns the client in its access line.
async fn client_in_log(
    gateway: &Gateway,
    client: &mut Client,
    headers: &[(&str, &str)],
) -> (u16, String, String) {
    client.send(client::message("GET", "/b/k", headers, None)).await;
    let answer = client.response("GET").await;
    let line = gateway.wait_for_access_line(answer.header("x-request-id").unwrap()).await;
    let field = |name: &str| line[name].as_str().unwrap().to_owned();
    (answer.complete_status(), field("client"), field("client_source"))
}

fn expected(status: u16, client: &str, source: &str) -> (u16, String, String) {
    (status, client.to_owned(), source.to_owned())
}

/// L3: both versions set the client address, for every request of the connection
#[tokio::test]
async fn a_trusted_proxy_sets_the_client_address() {
    let upstream = Upstream::ok("x");
    let gateway = trusting(&upstream, "127.0.0.0/8").start().await;
    for (header, client, source) in [
        (line("203.0.113.9:4711"), "203.0.113.9", "proxy"),
        (line("[2001:db8::7]:4711"), "2001:db8::7", "proxy"),
        (line("[::ffff:203.0.113.9]:4711"), "203.0.113.9", "proxy"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1", "peer"),
        (block(PROXY, "203.0.113.10:4711"), "203.0.113.10", "proxy"),
        (block(LOCAL, "203.0.113.10:4711"), "127.0.0.1", "peer"),
    ] {
        let mut connection = Client::connect(gateway.address()).await;
        connection.send(&header).await;
        for _ in 0..2 {
            assert_eq!(
                client_in_log(&gateway, &mut connection, &[]).await,
                expected(200, client, source),
                "{header:?}"
            );
        }
    }
}

/// L3: exactly the header's bytes are consumed, in any fragmentation
#[tokio::test]
async fn a_header_may_come_in_pieces_or_with_the_request() {
    let upstream = Upstream::ok("x");
    let gateway = trusting(&upstream, "127.0.0.0/8").start().await;
    for header in [line("203.0.113.9:4711"), block(PROXY, "203.0.113.9:4711")] {
        let body = [b"PROXY TCP4 ", SIGNATURE].concat();
        let put = client::message("PUT", "/b/k", &[], Some(&body));
        let mut connection = Client::connect(gateway.address()).await;
        connection.send([&header[..], &put].concat()).await;
        assert_eq!(connection.response("PUT").await.complete_status(), 200);
        assert_eq!(upstream.last().sha256(), client::sha256(&body), "the request is complete");

        let mut connection = Client::connect(gateway.address()).await;
        for byte in &header {
            connection.send([*byte]).await;
            tokio::task::yield_now().await;
        }
        let got = client_in_log(&gateway, &mut connection, &[]).await;
        assert_eq!(got, expected(200, "203.0.113.9", "proxy"));
    }
}

/// L1, L3, L4: clients behind a PROXY header have separate budgets
#[tokio::test]
async fn clients_behind_a_proxy_have_separate_budgets() {
    let upstream = Upstream::ok("x");
    let gateway = trusting(&upstream, "127.0.0.0/8")
        .set("rate_limit.per_ip.requests_per_second", "0.001")
        .set("rate_limit.per_ip.burst", "1")
        .start()
        .await;
    for client in ["203.0.113.1", "203.0.113.2"] {
        for status in [200, 429] {
            let mut connection = Client::connect(gateway.address()).await;
            connection.send(block(PROXY, &format!("{client}:1"))).await;
            assert_eq!(
                client_in_log(&gateway, &mut connection, &[]).await,
                expected(status, client, "proxy")
            );
        }
    }
}

/// L3: the forwarding header is evaluated with the PROXY header's address as the peer
#[tokio::test]
async fn the_proxy_headers_address_is_the_peer() {
    let upstream = Upstream::ok("x");
    let gateway = trusting(&upstream, "127.0.0.0/8,10.0.0.0/8").start().await;
    let forwarded = [("x-forwarded-for", "198.51.100.7")];
    for (named, client, source) in
        [("10.1.1.1:9", "198.51.100.7", "forwarded"), ("203.0.113.9:9", "203.0.113.9", "proxy")]
    {
        let mut connection = Client::connect(gateway.address()).await;
        connection.send(line(named)).await;
        assert_eq!(
            client_in_log(&gateway, &mut connection, &forwarded).await,
            expected(200, client, source),
            "{named}"
        );
    }
}

/// L3: an untrusted peer must begin with HTTP; its PROXY line is refused
#[tokio::test]
async fn an_untrusted_peers_proxy_header_is_refused() {
    let upstream = Upstream::ok("x");
    let gateway = trusting(&upstream, "10.0.0.0/8").start().await;
    let mut connection = Client::connect(gateway.address()).await;
    assert_eq!(client_in_log(&gateway, &mut connection, &[]).await, expected(200, "127.0.0.1", "peer"));
    for header in [line("203.0.113.9:4711"), block(PROXY, "203.0.113.9:4711")] {
        let mut connection = Client::connect(gateway.address()).await;
        connection.send([header, client::message("GET", "/b/k", &[], None)].concat()).await;
        assert_eq!(connection.response("GET").await.complete_status(), 400);
        assert!(connection.is_closed().await);
    }
    gateway
        .wait_for_log_line("request", |line| line["reason"] == "malformed" && line["client"] == "127.0.0.1")
        .await;
    assert_eq!(upstream.count(), 1);
}

/// L3, Bad input: an invalid required header closes the connection
#[tokio::test]
async fn an_invalid_header_ends_the_connection() {
    let upstream = Upstream::ok("x");
    let gateway = trusting(&upstream, "127.0.0.0/8").start().await;
    let request = client::message("GET", "/b/k", &[], None);
    let bad = [
        b"\x00PUT /b/k HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
        [b"PROXY TCP4 1.2.3.4 5.6.7.8 9\r\n".to_vec(), request.clone()].concat(),
        [b"PROXY TCP9 1.2.3.4 5.6.7.8 9 80\r\n".to_vec(), request.clone()].concat(),
        [SIGNATURE, &[0x11, 0x11, 0, 12], &[0; 12], &request].concat(),
    ];
    for bytes in &bad {
        let mut connection = Client::connect(gateway.address()).await;
        connection.send(bytes).await;
        assert!(connection.is_closed().await, "{bytes:?}");
    }
    let line = gateway.wait_for_log_line("request", |line| line["reason"] == "proxy_header").await;
    assert_eq!(line["client"], "127.0.0.1");
    let methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "BREW"];
    for (method, path) in methods.into_iter().flat_map(|method| [(method, "/b/k"), (method, "/-/other")]) {
        let mut connection = Client::connect(gateway.address()).await;
        connection.send(client::message(method, path, &[], None)).await;
        let answer = connection.response(method).await;
        assert_eq!(
            (answer.complete_status(), answer.reason()),
            (400, "proxy_header"),
            "{method}: a request, not a health check"
        );
        assert!(connection.is_closed().await);
    }
    let counted = gateway.metric("unrouted_total{reason=\"proxy_header\"}").await;
    assert_eq!(counted, (bad.len() + 2 * methods.len()) as f64);
    assert_eq!(upstream.count(), 0);
}

/// L3, T4: a PROXY header has the same timeout as a request head, also if it arrives slowly
#[tokio::test]
async fn a_late_header_ends_the_connection() {
    let upstream = Upstream::ok("x");
    let gateway = trusting(&upstream, "127.0.0.0/8").set("server.header_timeout", "0.4").start().await;
    let began = Instant::now();
    let mut connection = Client::connect(gateway.address()).await;
    let header = line("203.0.113.9:4711");
    let trickled = header.iter().take_while(|_| began.elapsed() < Duration::from_secs(10));
    for byte in trickled {
        if connection.try_send([*byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(connection.is_closed().await);
    assert!(began.elapsed() >= Duration::from_millis(400));
    gateway.wait_for_log_line("request", |line| line["reason"] == "proxy_header_timeout").await;
    assert_eq!(gateway.metric("unrouted_total{reason=\"proxy_header_timeout\"}").await, 1.0);
}

/// L3: without the setting a PROXY header is an invalid request
#[tokio::test]
async fn without_the_setting_a_proxy_header_is_invalid() {
    let upstream = Upstream::ok("x");
    let gateway =
        Gateway::builder().bucket("b", &upstream).set("server.trusted_proxies", "127.0.0.0/8").start().await;
    let mut connection = Client::connect(gateway.address()).await;
    connection.send([line("203.0.113.9:1"), client::message("GET", "/b/k", &[], None)].concat()).await;
    assert_eq!(connection.response("GET").await.complete_status(), 400);
    assert_eq!(upstream.count(), 0);
}

/// L3, Bad input: the setting without trusted proxies is a start-up error that names both config keys
#[test]
fn the_setting_needs_a_proxy_to_trust() {
    let ended = Gateway::builder().set("server.proxy_protocol", "true").run();
    assert_eq!(ended.code, Some(78), "{ended:?}");
    for key in ["server.proxy_protocol", "server.trusted_proxies"] {
        assert!(ended.stderr.contains(key), "{ended:?}");
    }
}
