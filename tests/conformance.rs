//! All guards in one gateway, one test after another: each acts as configured.
//!
//! The details of each guard are tested elsewhere; other proxies are compared against this list. Their known faults are
//! part of it: chunked bodies and the number of headers are not limited, retries send a POST twice, and a client over
//! its limit is locked out for as long as it keeps sending.

use crate::support::client::message;
use crate::support::{Client, Gateway, Response, Upstream, UpstreamReply, request, wait_for};

/// Buckets with healthy and failing upstreams, behind all guards.
async fn guarded(upstreams: &[(&str, &Upstream)]) -> Gateway {
    let mut builder = Gateway::builder()
        .set("server.limits.max_request_size", "100000")
        .set("rate_limit.global.requests_per_second", "1000000")
        .set("rate_limit.per_ip.requests_per_second", "1000000");
    for (name, upstream) in upstreams {
        builder = builder
            .bucket(name, upstream)
            .set(&format!("buckets.{name}.rate_limit.requests_per_second"), "1000000")
            .set(&format!("buckets.{name}.s3.timeout"), "0.3")
            .set(&format!("buckets.{name}.s3.retry.max_attempts"), "3")
            .set(&format!("buckets.{name}.s3.retry.initial_backoff_ms"), "1");
    }
    builder.start().await
}

async fn raw(gateway: &Gateway, bytes: impl AsRef<[u8]>) -> (Response, bool) {
    let mut client = Client::connect(gateway.address()).await;
    client.send(bytes).await;
    let answer = client.response("PUT").await;
    let is_closed = client.try_send(message("GET", "/good/k", &[], None)).await.is_err()
        || client.try_response("GET").await.is_none();
    (answer, is_closed)
}

/// V2: heads and bodies over the limits are refused, chunked bodies while they stream; none is forwarded whole
#[tokio::test]
async fn size_limits_are_enforced() {
    let good = Upstream::ok("x");
    let gateway = guarded(&[("good", &good)]).await;
    let get = async |target: &str, headers: &[(&str, &str)]| {
        let answer = request(gateway.address(), "GET", target, headers, None).await;
        (answer.complete_status(), answer.reason().to_owned())
    };
    assert_eq!(get("/good/k", &[]).await.0, 200);
    assert_eq!(get(&format!("/good/k?{}", "x".repeat(9216)), &[]).await, (414, "uri_too_long".to_owned()));
    let large = "y".repeat(1000);
    assert_eq!(get("/good/k", &[("x-a", large.as_str()); 9]).await, (431, "headers_too_large".to_owned()));
    assert_eq!(get("/good/k", &[("x-a", "y"); 91]).await, (431, "too_many_headers".to_owned()));
    let announced = "PUT /good/k HTTP/1.1\r\nhost: a\r\ncontent-length: 100001\r\n\r\n";
    let (answer, is_closed) = raw(&gateway, announced).await;
    assert_eq!((answer.complete_status(), answer.reason(), is_closed), (413, "body_too_large", true));
    assert_eq!(good.count(), 1, "the heads were enough for the refusals");
    let chunks = format!("c350\r\n{}\r\n", "x".repeat(50_000)).repeat(3);
    let streamed = format!("PUT /good/k HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunks}");
    let (answer, is_closed) = raw(&gateway, streamed).await;
    assert_eq!((answer.complete_status(), answer.reason(), is_closed), (413, "body_too_large", true));
    gateway.wait_until_idle().await;
    assert!(good.seen().iter().skip(1).all(|seen| !seen.is_complete), "{:?}", good.seen());
}

/// V1: a request with two lengths is refused and its connection closed, in either order, and bytes after it are not
/// parsed as a request
#[tokio::test]
async fn two_lengths_are_refused() {
    let good = Upstream::ok("x");
    let gateway = guarded(&[("good", &good)]).await;
    let (length, chunked) = ("content-length: 4\r\n", "transfer-encoding: chunked\r\n");
    for lengths in [[length, chunked], [chunked, length], [length, "content-length: 5\r\n"], [length, length]]
    {
        let head = format!("POST /good/k HTTP/1.1\r\nhost: a\r\n{}\r\n", lengths.concat());
        let (answer, is_closed) =
            raw(&gateway, format!("{head}0\r\n\r\nGET /good/smuggled HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        assert!(answer.status == 400 && is_closed, "{lengths:?}: {answer:?}");
    }
    assert_eq!(good.count(), 0);
}

/// T3, R1, B2: upstream faults get their specific errors, and other buckets are not affected
#[tokio::test]
async fn upstream_faults_are_isolated() {
    let (good, silent, breaks) = (
        Upstream::ok("x"),
        Upstream::start(|_| UpstreamReply::hang()),
        Upstream::start(|_| UpstreamReply::reset()),
    );
    let gateway = guarded(&[("good", &good), ("silent", &silent), ("breaks", &breaks)]).await;
    let asked = async |path: &str| {
        let answer = gateway.get(path).await;
        (answer.complete_status(), answer.reason().to_owned())
    };
    assert_eq!(asked("/silent/k").await, (504, "timeout_first_byte".to_owned()));
    assert_eq!(asked("/breaks/k").await, (502, "upstream_reset".to_owned()));
    wait_for("its circuit opens", || async { (asked("/breaks/k").await.1 == "breaker_open").then_some(()) })
        .await;
    assert_eq!(asked("/good/k").await.0, 200);
}

/// R1, R3: a failed GET is sent again, a POST never, whether it is refused, cut off or left without an answer
#[tokio::test]
async fn a_post_is_sent_once() {
    for reply in [UpstreamReply::status(503), UpstreamReply::reset(), UpstreamReply::hang()] {
        let failing = Upstream::start(move |_| reply.clone());
        let gateway = guarded(&[("failing", &failing)]).await;
        for body in [&b""[..], b"abc"] {
            failing.seen();
            let before = failing.count();
            let answer = request(gateway.address(), "POST", "/failing/k", &[], Some(body)).await;
            assert!(matches!(answer.complete_status(), 502..=504), "{answer:?}");
            assert_eq!(failing.count() - before, 1, "{answer:?}");
        }
        let before = failing.count();
        assert!(matches!(gateway.get("/failing/k").await.complete_status(), 502..=504));
        assert!(failing.count() - before > 1, "a GET is retried");
    }
}

/// L1, L2: a client far over its limit gets exactly its limit and is not locked out for continued requests
#[tokio::test]
async fn a_client_over_its_limit_gets_its_limit() {
    const CLIENTS: usize = 8;
    let good = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("good", &good)
        .set("rate_limit.per_ip.requests_per_second", "5")
        .set("rate_limit.per_ip.burst", "5")
        .start()
        .await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(Client::connect(gateway.address()).await);
    }
    let began = std::time::Instant::now();
    let (mut admitted, mut refused) = (0, 0);
    // The burst is spent in the first round, so all later requests were served at the refill rate, to a client that
    // never paused.
    while admitted < 12 {
        for client in &mut clients {
            client.send(message("GET", "/good/k", &[], None)).await;
            match client.response("GET").await.complete_status() {
                200 => admitted += 1,
                429 => refused += 1,
                status => panic!("{status}"),
            }
        }
        assert!(
            began.elapsed() < crate::support::WAIT_MAX,
            "{admitted} admitted, {refused} refused: the client is locked out"
        );
    }
    let most = began.elapsed().as_secs_f64() * 5.0 + 5.0;
    assert!(f64::from(admitted) <= most, "{admitted} admitted, at most {most}");
    assert!(refused > admitted, "{refused} refused and {admitted} admitted is not far over the limit");
    assert_eq!(good.count(), usize::try_from(admitted).unwrap());
}
