//! The client address in the log and in rate limits, behind proxies and without them.

use crate::support::{Gateway, Upstream, request};

const SLOW: &str = "0.001";

/// Sends a request with these headers; returns the status, and the client and its source from the access line.
async fn client_in_log(gateway: &Gateway, headers: &[(&str, &str)]) -> (u16, String, String) {
    let answer = request(gateway.address(), "GET", "/b/k", headers, None).await;
    let line = gateway.wait_for_access_line(answer.header("x-request-id").unwrap()).await;
    let field = |name: &str| line[name].as_str().unwrap().to_owned();
    (answer.complete_status(), field("client"), field("client_source"))
}

fn expected(status: u16, client: &str, source: &str) -> (u16, String, String) {
    (status, client.to_owned(), source.to_owned())
}

/// L3: no proxy is trusted by default, and forwarding headers of untrusted peers change neither the log nor a limit
#[tokio::test]
async fn untrusted_headers_change_nothing() {
    for trusted in ["", "10.0.0.0/8,::1"] {
        let upstream = Upstream::ok("x");
        let gateway = Gateway::builder()
            .bucket("b", &upstream)
            .set("server.trusted_proxies", trusted)
            .set("rate_limit.per_ip.requests_per_second", SLOW)
            .set("rate_limit.per_ip.burst", "3")
            .start()
            .await;
        for (header, value) in [
            ("x-forwarded-for", "203.0.113.1"),
            ("forwarded", "for=203.0.113.2"),
            ("cf-connecting-ip", "203.0.113.3"),
        ] {
            assert_eq!(
                client_in_log(&gateway, &[(header, value)]).await,
                expected(200, "127.0.0.1", "peer"),
                "{header}"
            );
        }
        let another = [("x-forwarded-for", "203.0.113.9")];
        assert_eq!(
            client_in_log(&gateway, &another).await,
            expected(429, "127.0.0.1", "peer"),
            "one peer has one budget"
        );
    }
}

/// L3, L4: clients behind a trusted proxy have separate budgets, by the first untrusted hop from the end
#[tokio::test]
async fn clients_behind_a_trusted_proxy_have_budgets_of_their_own() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("server.trusted_proxies", "127.0.0.0/8, 10.0.0.0/8")
        .set("rate_limit.per_ip.requests_per_second", SLOW)
        .set("rate_limit.per_ip.burst", "2")
        .start()
        .await;
    let by = async |value: &str| client_in_log(&gateway, &[("x-forwarded-for", value)]).await;
    for client in ["203.0.113.1", "203.0.113.2", "2001:db8:0:1::1", "2001:db8:0:2::1"] {
        assert_eq!(by(client).await, expected(200, client, "forwarded"), "first");
        assert_eq!(
            by(&format!("6.6.6.6, {client}, 10.9.9.9")).await,
            expected(200, client, "forwarded"),
            "second"
        );
        assert_eq!(by(&format!("7.7.7.7, {client}")).await, expected(429, client, "forwarded"), "third");
    }
    // The same networks and addresses in other notations.
    assert_eq!(by("2001:db8:0:1:ffff::9").await.0, 429, "IPv6 counts by /64");
    assert_eq!(
        by("::ffff:203.0.113.1").await,
        expected(429, "203.0.113.1", "forwarded"),
        "mapped IPv4 is IPv4"
    );
    assert_eq!(by("[2001:db8:0:2::5]:4711").await.0, 429);
    // Clients without a valid address are counted as the proxy.
    assert_eq!(by("6.6.6.6, unknown").await, expected(200, "127.0.0.1", "peer"));
    assert_eq!(by("6.6.6.6, unknown, 10.9.9.9").await, expected(200, "10.9.9.9", "forwarded"));
    assert_eq!(client_in_log(&gateway, &[]).await, expected(200, "127.0.0.1", "peer"));
    assert_eq!(client_in_log(&gateway, &[]).await, expected(429, "127.0.0.1", "peer"));
    assert_eq!(upstream.count(), 4 * 2 + 3);
}

/// L3: only the configured header is used; repeated lines form one list
#[tokio::test]
async fn only_the_configured_header_is_used() {
    for (header, lines, client) in [
        ("x-forwarded-for", ["6.6.6.6, 203.0.113.1", "127.0.0.9"], "203.0.113.1"),
        ("forwarded", ["for=6.6.6.6", "for=\"[2001:db8::7]:80\";proto=https, for=127.0.0.9"], "2001:db8::7"),
        ("cf-connecting-ip", ["6.6.6.6", "203.0.113.2"], "203.0.113.2"),
    ] {
        let upstream = Upstream::ok("x");
        let gateway = Gateway::builder()
            .bucket("b", &upstream)
            .set("server.trusted_proxies", "127.0.0.0/8")
            .set("server.client_address_header", header)
            .start()
            .await;
        let others = ["x-forwarded-for", "forwarded", "cf-connecting-ip", "x-real-ip"];
        let others = others.into_iter().filter(|name| *name != header).map(|name| (name, "198.51.100.1"));
        let mut headers: Vec<_> = others.collect();
        assert_eq!(client_in_log(&gateway, &headers).await, expected(200, "127.0.0.1", "peer"), "{header}");
        headers.extend(lines.map(|line| (header, line)));
        assert_eq!(client_in_log(&gateway, &headers).await, expected(200, client, "forwarded"), "{header}");
    }
}

/// L3, Bad input: an invalid network is a start-up error that names it
#[test]
fn an_invalid_network_is_a_start_up_error() {
    let ended = Gateway::builder().set("server.trusted_proxies", "10.0.0.0/8,10.0.0.7/33").run();
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(
        ended.stderr.contains("server.trusted_proxies: \"10.0.0.7/33\" needs a prefix length"),
        "{ended:?}"
    );
}
