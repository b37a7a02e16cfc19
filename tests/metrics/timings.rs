//! Histograms of upstream calls and phases, connections, and the process.

use std::time::Duration;

use super::series;
use crate::https::Identity;
use crate::support::{Client, Gateway, Upstream, UpstreamReply, client, wait_for};

const SLOW: Duration = Duration::from_millis(300);

async fn wait_for_requests(gateway: &Gateway, count: f64) {
    wait_for("the requests are counted", || async {
        let counted = gateway.metric("request_duration_seconds_count{bucket=\"b\"}").await;
        (counted == count).then_some(())
    })
    .await;
}

/// O3: each call is observed under its endpoint, and a call without an answer is not
#[tokio::test]
async fn calls_are_observed_by_endpoint() {
    let slow = Upstream::start(|_| UpstreamReply::ok("x").delayed(SLOW));
    let failing = Upstream::start(|_| UpstreamReply::reset());
    let endpoints = [slow.address(), failing.address()];
    let gateway = Gateway::builder().bucket_at("b", &endpoints).start().await;
    // Until the other endpoint is ejected, each request is retried at the first.
    for _ in 0..6 {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    }
    wait_for_requests(&gateway, 6.0).await;
    let metric = async |name: &str, endpoint: &Upstream| {
        let labels = format!("{{bucket=\"b\",endpoint=\"{}\"}}", endpoint.address());
        gateway.metric(&format!("upstream_duration_seconds_{name}{labels}")).await
    };
    assert!(failing.count() > 0);
    assert_eq!((metric("count", &slow).await, metric("count", &failing).await), (6.0, 0.0));
    assert!(metric("sum", &slow).await >= 6.0 * SLOW.as_secs_f64());
}

/// O3: phases add up to the request, and the time to the first byte ends before the body
#[tokio::test]
async fn phases_divide_a_request() {
    let upstream =
        Upstream::start(|_| UpstreamReply::ok("xy").delayed(SLOW).then_body_after(SLOW, "z").chunked());
    let gateway = Gateway::in_front_of(&upstream).await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    wait_for_requests(&gateway, 1.0).await;
    let phase = async |phase: &str| {
        let labels = format!("{{bucket=\"b\",phase=\"{phase}\"}}");
        assert_eq!(gateway.metric(&format!("request_phase_seconds_count{labels}")).await, 1.0, "{phase}");
        gateway.metric(&format!("request_phase_seconds_sum{labels}")).await
    };
    let (admission, queue) = (phase("admission").await, phase("queue").await);
    let (first_byte, response) = (phase("first_byte").await, phase("response").await);
    let slow = SLOW.as_secs_f64();
    assert!(first_byte >= slow && response >= slow, "{first_byte} {response}");
    let total = gateway.metric("request_duration_seconds_sum{bucket=\"b\"}").await;
    assert!((admission + queue + first_byte + response - total).abs() < 1e-5, "{total}");
    let to_first_byte = gateway.metric("first_byte_seconds_sum{bucket=\"b\"}").await;
    assert!((admission + queue + first_byte - to_first_byte).abs() < 1e-5, "{to_first_byte}");
}

/// O3: a refused request has a duration and no time to the first byte
#[tokio::test]
async fn a_refusal_has_no_upstream_time() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    assert_eq!(gateway.get(&format!("/b/{}", "k".repeat(8200))).await.complete_status(), 414);
    wait_for_requests(&gateway, 1.0).await;
    assert_eq!(gateway.metric("first_byte_seconds_count{bucket=\"b\"}").await, 0.0);
    assert_eq!(gateway.metric("request_phase_seconds_count{bucket=\"b\",phase=\"queue\"}").await, 0.0);
    let endpoint = upstream.address();
    let calls = format!("upstream_duration_seconds_count{{bucket=\"b\",endpoint=\"{endpoint}\"}}");
    assert_eq!(gateway.metric(&calls).await, 0.0);
}

/// O3: connections are counted once, by protocol and TLS version, and the open ones are known
#[tokio::test]
async fn connections_are_counted_by_protocol_and_tls() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    let mut connection = Client::connect(gateway.address()).await;
    for _ in 0..3 {
        connection.send(client::message("GET", "/b/k", &[], None)).await;
        assert_eq!(connection.response("GET").await.complete_status(), 200);
    }
    assert_eq!(gateway.metric("client_connections_total{protocol=\"http1\",tls=\"none\"}").await, 1.0);
    wait_for("the connection is idle", || async {
        let open = gateway.metric("client_connections_open").await;
        (open == 1.0 && gateway.metric("client_connections_idle").await == 1.0).then_some(())
    })
    .await;
    drop(connection);
    wait_for("no connection is open", || async {
        (gateway.metric("client_connections_open").await == 0.0).then_some(())
    })
    .await;
    let scrape = gateway.metrics().await;
    assert!(!scrape.contains("tls=\"1.") && !scrape.contains("http2"), "the listener offers neither");
}

/// O3: a listener with TLS counts HTTP/1 and HTTP/2 by TLS version
#[tokio::test]
async fn tls_connections_are_counted_by_version() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let gateway = identity.gateway_before(&upstream).start().await;
    let all = series(&gateway.metrics().await);
    let name = |protocol: &str, tls: &str| {
        format!("tidegate_client_connections_total{{protocol=\"{protocol}\",tls=\"{tls}\"}}")
    };
    for (protocol, tls) in [("http1", "1.2"), ("http1", "1.3"), ("http2", "1.2"), ("http2", "1.3")] {
        assert_eq!(all.get(&name(protocol, tls)), Some(&0.0), "{protocol} {tls}");
    }
    assert_eq!(all.get(&name("http1", "none")), None);
    let http2 = identity.http2(&gateway).await;
    for _ in 0..2 {
        assert_eq!(http2.get("/b/k").await.complete_status(), 200);
    }
    let all = series(&gateway.metrics().await);
    assert_eq!((all[&name("http2", "1.3")], all[&name("http1", "1.3")]), (1.0, 0.0));
}

/// O3: the process's own metrics are those of the kernel
#[tokio::test]
async fn the_process_is_measured() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).ulimit("-n 4321").start().await;
    assert_eq!(gateway.metric("process_max_fds").await, 4321.0);
    let listed = std::fs::read_dir(format!("/proc/{}/fd", gateway.pid())).unwrap().count() as f64;
    let open = gateway.metric("process_open_fds").await;
    assert!((open - listed).abs() < 10.0 && open > 5.0, "{open} and {listed}");
    let resident = gateway.metric("process_resident_memory_bytes").await;
    assert!(resident > 1e6 && gateway.metric("process_virtual_memory_bytes").await > resident);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let age = now - gateway.metric("process_start_time_seconds").await;
    assert!((-2.0..600.0).contains(&age), "started {age} s ago");
    let before = gateway.metric("process_cpu_seconds_total").await;
    let later = wait_for("it has used CPU time", || async {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
        let used = gateway.metric("process_cpu_seconds_total").await;
        (used > before).then_some(used)
    })
    .await;
    assert!(later - before < 60.0, "{before} then {later}");
}
