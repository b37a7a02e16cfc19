//! OPTIONS requests to buckets without CORS rules in the gateway: the store answers preflights, which are sent
//! anonymously.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::gateway::Builder;
use crate::support::{Gateway, Response, SeenRequest, Upstream, UpstreamReply, request, wait_for};

const APP: &str = "https://app.example.com";
/// The preflight headers of Chromium and Node's fetch.
pub(crate) const BROWSER: [(&str, &str); 10] = [
    ("accept", "*/*"),
    ("accept-encoding", "gzip, deflate, br"),
    ("accept-language", "en"),
    ("access-control-request-headers", "content-type,x-amz-date"),
    ("access-control-request-method", "PUT"),
    ("origin", APP),
    ("referer", "https://app.example.com/upload"),
    ("sec-fetch-mode", "cors"),
    ("sec-fetch-site", "cross-site"),
    ("user-agent", "Mozilla/5.0"),
];

/// A store with CORS rules for one origin.
fn store() -> Upstream {
    Upstream::start(|seen| {
        let allowed = |reply: UpstreamReply| {
            reply
                .header("access-control-allow-origin", APP)
                .header("access-control-expose-headers", "ETag")
                .header("vary", "Origin")
        };
        match (seen.method.as_str(), seen.header("origin") == Some(APP)) {
            ("OPTIONS", true) => allowed(UpstreamReply::ok(""))
                .header("access-control-allow-methods", "PUT")
                .header("access-control-max-age", "3000"),
            ("OPTIONS", false) => UpstreamReply::s3_error(403, "AccessForbidden"),
            (_, true) => allowed(UpstreamReply::ok("x")),
            (_, false) => UpstreamReply::ok("x"),
        }
    })
}

/// Bucket `b`, which accepts signatures only and has the key pairs `A` and `B` for its store.
pub(crate) fn signed(upstream: &Upstream) -> Builder {
    Gateway::builder()
        .bucket("b", upstream)
        .set("buckets.b.auth", "sigv4")
        .set("buckets.b.s3.retry.max_attempts", "1")
        .set("buckets.b.s3.credentials.one.access_key_id", "A")
        .set("buckets.b.s3.credentials.one.secret_access_key", "s")
        .set("buckets.b.s3.credentials.two.access_key_id", "B")
        .set("buckets.b.s3.credentials.two.secret_access_key", "t")
}

pub(crate) async fn preflight(gateway: &Gateway, target: &str, more: &[(&str, &str)]) -> Response {
    let headers: Vec<_> = BROWSER.iter().chain(more).copied().collect();
    request(gateway.address(), "OPTIONS", target, &headers, None).await
}

fn assert_anonymous(seen: &SeenRequest) {
    let credentials = [
        "authorization",
        "cookie",
        "x-amz-security-token",
        "x-amz-date",
        "x-amz-content-sha256",
        "x-api-key",
    ];
    for name in credentials.into_iter().chain([
        "x-amz-copy-source",
        "x-amz-meta-a",
        "proxy-authorization",
        "x-tidegate-session",
    ]) {
        assert_eq!(seen.header(name), None, "{:?}", seen.headers);
    }
}

/// A6: a preflight is sent to the store with the headers that its rules evaluate, and the answer is forwarded
#[tokio::test]
async fn a_preflight_is_answered_by_the_store() {
    let upstream = store();
    let gateway = signed(&upstream).set("buckets.b.s3.bucket", "real").start().await;
    let presigned = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=x&X-Amz-Signature=y&X-Amz-Date=z&X-Amz-Expires=9&X-Amz-SignedHeaders=host";
    let credentials = [
        ("authorization", "AWS4-HMAC-SHA256 Credential=x"),
        ("cookie", "session=secret"),
        ("proxy-authorization", "Basic x"),
        ("x-amz-copy-source", "/other/k"),
        ("x-amz-meta-a", "b"),
        ("x-amz-security-token", "t"),
        ("x-api-key", "k"),
        ("x-tidegate-session", "s"),
        ("content-length", "0"),
    ];
    for (target, seen_target) in [
        ("/b/a%20b?partNumber=1", "/real/a%20b?partNumber=1".to_owned()),
        (&format!("/b/k?{presigned}"), "/real/k".to_owned()),
        ("/b", "/real".to_owned()),
    ] {
        for more in [&[][..], &credentials] {
            let answer = preflight(&gateway, target, more).await;
            assert_eq!(
                (answer.complete_status(), answer.body.len()),
                (200, 0),
                "{target}: {}",
                answer.text()
            );
            for (name, value) in [
                ("access-control-allow-origin", APP),
                ("access-control-allow-methods", "PUT"),
                ("access-control-max-age", "3000"),
                ("vary", "Origin"),
            ] {
                assert_eq!(answer.headers_named(name), [value]);
            }
            let seen = upstream.last();
            assert_eq!((seen.method.as_str(), &seen.target), ("OPTIONS", &seen_target));
            for (name, value) in
                BROWSER.iter().filter(|(name, _)| name.starts_with("access") || *name == "origin")
            {
                assert_eq!(seen.header(name), Some(*value));
            }
            assert_eq!(seen.header("user-agent"), Some("Mozilla/5.0"));
            assert_anonymous(&seen);
        }
    }
    let forbidden = [("origin", "https://evil.test"), ("access-control-request-method", "PUT")];
    let answer = request(gateway.address(), "OPTIONS", "/b/k", &forbidden, None).await;
    assert_eq!((answer.complete_status(), answer.reason()), (403, ""));
    assert!(answer.text().contains("AccessForbidden"), "{}", answer.text());
    gateway.wait_until_idle().await;
}

/// A6: the store's CORS headers on actual answers are forwarded
#[tokio::test]
async fn the_stores_cors_headers_are_forwarded() {
    let upstream = store();
    let gateway = Gateway::in_front_of(&upstream).await;
    for method in ["GET", "HEAD", "DELETE"] {
        let answer = request(gateway.address(), method, "/b/k", &[("origin", APP)], None).await;
        assert_eq!(
            (answer.complete_status(), answer.header("access-control-allow-origin")),
            (200, Some(APP)),
            "{method}"
        );
        assert_eq!(
            (answer.headers_named("access-control-expose-headers"), answer.headers_named("vary")),
            (vec!["ETag"], vec!["Origin"])
        );
        assert_eq!(upstream.last().header("origin"), Some(APP));
    }
    let answer = request(gateway.address(), "GET", "/b/k", &[], None).await;
    assert_eq!((answer.header("access-control-allow-origin"), answer.header("vary")), (None, None));
}

/// A6, C3, B3: preflight answers reject no credential, and 4xx opens no circuit
#[tokio::test]
async fn a_refused_preflight_does_not_affect_a_credential() {
    let codes = ["InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "AccessDenied", "SlowDown"];
    let upstream = Upstream::start(move |seen| match seen.method.as_str() {
        "OPTIONS" => UpstreamReply::s3_error(403, codes[seen.number % codes.len()]),
        _ => UpstreamReply::ok("x"),
    });
    let gateway = signed(&upstream).set("buckets.b.auth", "sigv4,anonymous").start().await;
    for _ in 0..30 {
        let answer = preflight(&gateway, "/b/k", &[]).await;
        assert_eq!(
            (answer.complete_status(), answer.reason()),
            (403, ""),
            "the store's own answer is forwarded"
        );
    }
    assert_eq!(upstream.count(), 30, "neither an attempt with another credential nor a check");
    gateway.wait_until_idle().await;
    let bucket = gateway.status().await["buckets"]["b"].clone();
    let read = &bucket["breaker"]["read"];
    assert_eq!((&read["opened_total"], &read["consecutive_failures"]), (&0.into(), &0.into()), "{read}");
    for credential in bucket["pool"]["credentials"].as_array().unwrap() {
        assert_eq!(
            (&credential["state"], &credential["refused"]),
            (&"in_use".into(), &0.into()),
            "{credential}"
        );
    }
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
}

/// A6, B1, B3: preflights are unauthenticated, so no answer to them opens a circuit; an open circuit refuses them
#[tokio::test]
async fn a_preflight_obeys_the_circuit_and_opens_none() {
    for failing in [UpstreamReply::status(500), UpstreamReply::status(503), UpstreamReply::reset()] {
        let failed = failing.clone();
        let upstream = Upstream::start(move |seen| match seen.method.as_str() {
            "OPTIONS" => failed.clone(),
            _ => UpstreamReply::status(500),
        });
        let gateway = signed(&upstream)
            .set("buckets.b.auth", "sigv4,anonymous")
            .set("buckets.b.s3.circuit_breaker.failure_threshold", "3")
            .start()
            .await;
        for number in 1..=6 {
            let answer = preflight(&gateway, "/b/k", &[]).await;
            assert!(
                answer.complete_status() >= 500 && answer.reason() != "breaker_open",
                "{}",
                answer.text()
            );
            assert_eq!(upstream.count(), number);
            gateway.wait_until_idle().await;
        }
        let bucket = gateway.status().await["buckets"]["b"].clone();
        assert_eq!(bucket["breaker"]["read"]["consecutive_failures"], 0, "{bucket}");
        assert_eq!(bucket["pool"]["endpoints"][0]["state"], "in_rotation", "{bucket}");
        for _ in 0..3 {
            assert_eq!(gateway.get("/b/k").await.complete_status(), 500);
            gateway.wait_until_idle().await;
        }
        let answer = preflight(&gateway, "/b/k", &[]).await;
        assert_eq!((answer.complete_status(), answer.reason()), (503, "breaker_open"));
    }
}

/// A6, B4: a preflight passes a half-open circuit, because a browser sends the request only after it. It is no trial: it
/// would decide none, and any client could occupy all trials
#[tokio::test]
async fn a_preflight_is_not_a_trial() {
    let fails = Arc::new(AtomicBool::new(true));
    let of_store = Arc::clone(&fails);
    let upstream = Upstream::start(move |_| match of_store.load(Ordering::SeqCst) {
        true => UpstreamReply::status(500),
        false => UpstreamReply::ok("x"),
    });
    let gateway = signed(&upstream)
        .set("buckets.b.auth", "sigv4,anonymous")
        .set("buckets.b.s3.circuit_breaker.failure_threshold", "1")
        .set("buckets.b.s3.circuit_breaker.timeout_seconds", "0.2")
        .start()
        .await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 500);
    fails.store(false, Ordering::SeqCst);
    let before = upstream.count();
    wait_for("the open time has ended", || async {
        let answer = preflight(&gateway, "/b/k", &[]).await;
        match answer.complete_status() {
            200 => Some(()),
            503 => {
                assert_eq!((answer.reason(), upstream.count()), ("breaker_open", before));
                None
            }
            other => panic!("{other}: {}", answer.text()),
        }
    })
    .await;
    for _ in 0..6 {
        assert_eq!(preflight(&gateway, "/b/k", &[]).await.complete_status(), 200);
    }
    gateway.wait_until_idle().await;
    let state = || async { gateway.status().await["buckets"]["b"]["breaker"]["read"]["state"].clone() };
    assert_ne!(state().await, "closed", "preflights decide no trial");
    assert_eq!(upstream.count(), before + 7);
    assert_eq!(
        gateway.get("/b/k").await.complete_status(),
        200,
        "the request after the preflight is the trial"
    );
    wait_for("the circuit closes", || async {
        gateway.get("/b/k").await.complete_status();
        (state().await == "closed").then_some(())
    })
    .await;
}

/// A6, P5, P7: preflights eject no endpoint, and do not change the adaptive limit
#[tokio::test]
async fn preflights_do_not_affect_an_endpoint() {
    for failing in [UpstreamReply::status(503), UpstreamReply::status(500), UpstreamReply::reset()] {
        let upstreams = [(); 2].map(|()| {
            let failed = failing.clone();
            Upstream::start(move |_| failed.clone())
        });
        let gateway = Gateway::builder()
            .bucket_at("b", &[upstreams[0].address(), upstreams[1].address()])
            .set("buckets.b.s3.outlier_ejection.consecutive_failures", "1")
            .start()
            .await;
        for _ in 0..8 {
            assert!(preflight(&gateway, "/b/k", &[]).await.complete_status() >= 500);
        }
        gateway.wait_until_idle().await;
        let bucket = gateway.status().await["buckets"]["b"].clone();
        for endpoint in bucket["pool"]["endpoints"].as_array().unwrap() {
            assert_eq!((&endpoint["state"], &endpoint["ejections"]), (&"in_rotation".into(), &0.into()));
        }
    }
}

/// A6, L1: preflights are charged to their client, and those refused before step 5 do not reach the store
#[tokio::test]
async fn a_preflight_is_charged_to_its_client() {
    let upstream = store();
    let gateway = signed(&upstream)
        .set("rate_limit.per_ip.requests_per_second", "0.001")
        .set("rate_limit.per_ip.burst", "2")
        .start()
        .await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(preflight(&gateway, "/b/k", &[]).await.complete_status());
    }
    assert_eq!((statuses, upstream.count()), (vec![200, 200, 429, 429], 2));
}

/// A6, A4, V1: an OPTIONS that is no preflight is refused as in S3; a closed bucket and an API get no preflight
#[tokio::test]
async fn other_options_never_reach_an_upstream() {
    let upstream = store();
    let gateway = signed(&upstream)
        .http_bucket("api", &upstream)
        .set("buckets.closed.s3.endpoints", &format!("http://{}", upstream.address()))
        .start()
        .await;
    let options = async |target: &str, headers: &[(&str, &str)], body: Option<&[u8]>| {
        let answer = request(gateway.address(), "OPTIONS", target, headers, body).await;
        (answer.complete_status(), answer.reason().to_owned())
    };
    let (origin, method) = (("origin", APP), ("access-control-request-method", "GET"));
    let refusal = |status: u16, reason: &str| (status, reason.to_owned());
    for headers in [&[][..], &[origin], &[method], &[origin, origin, method], &[origin, method, method]] {
        assert_eq!(options("/b/k", headers, None).await, refusal(400, "preflight"), "{headers:?}");
    }
    assert_eq!(options("/b/k", &[origin, method], Some(b"x")).await, refusal(400, "preflight"));
    assert_eq!(options("/closed/k", &[origin, method], None).await, refusal(403, "bucket_closed"));
    assert_eq!(options("/closed/k", &[], None).await, refusal(400, "preflight"));
    assert_eq!(options("/nowhere/k", &[origin, method], None).await, refusal(404, "no_such_bucket"));
    assert_eq!(options("/b/../c", &[origin, method], None).await, refusal(400, "path"));
    for headers in [&[][..], &[origin, method]] {
        assert_eq!(options("/api/x", headers, None).await, refusal(405, "method"), "{headers:?}");
    }
    assert_eq!(upstream.count(), 0);
}
