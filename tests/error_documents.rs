//! Error documents of any length and pace: status and body are forwarded completely, and only the status and the code
//! in the first 8 KiB are classified.

use std::time::Duration;

use serde_json::Value;

use crate::support::gateway::Builder;
use crate::support::{Client, Gateway, Latch, Upstream, UpstreamReply, client, request, wait_for};

/// More failures than open a circuit by default.
const TIMES: usize = 6;

/// A document of at least this many bytes.
fn document(code: &str, bytes: usize) -> String {
    let token = "IQoJb3JpZ2luX2VjEDoaCXVzLWVhc3QtMSJHMEUC".repeat(bytes / 40 + 1);
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>m</Message><Token-0>{token}</Token-0>\
         <RequestId>1</RequestId></Error>"
    )
}

fn answer(status: u16, text: &str) -> UpstreamReply {
    UpstreamReply::new(status, text).header("content-type", "application/xml")
}

/// The text in chunks of this many bytes, with a pause before each but the first.
fn dripped(status: u16, text: &str, piece: usize, pause: Duration) -> UpstreamReply {
    let mut pieces = text.as_bytes().chunks(piece);
    let first = answer(status, std::str::from_utf8(pieces.next().unwrap()).unwrap());
    pieces.fold(first, |reply, piece| reply.then_body_after(pause, piece)).chunked()
}

/// A bucket `b` with one key pair, and a bucket `two` with several.
fn signed(upstream: &Upstream) -> Builder {
    Gateway::builder()
        .bucket("b", upstream)
        .set("buckets.b.s3.access_key_id", "A")
        .set("buckets.b.s3.secret_access_key", "s")
        .bucket("two", upstream)
        .set("buckets.two.s3.credentials.one.access_key_id", "A")
        .set("buckets.two.s3.credentials.one.secret_access_key", "s")
        .set("buckets.two.s3.credentials.two.access_key_id", "B")
        .set("buckets.two.s3.credentials.two.secret_access_key", "t")
}

async fn circuit(gateway: &Gateway, bucket: &str) -> Value {
    gateway.wait_until_idle().await;
    gateway.status().await["buckets"][bucket]["breaker"]["read"].clone()
}

async fn nothing_counts(gateway: &Gateway, bucket: &str) {
    let circuit = circuit(gateway, bucket).await;
    assert_eq!(
        (&circuit["opened_total"], &circuit["consecutive_failures"]),
        (&0.into(), &0.into()),
        "{circuit}"
    );
}

/// E2, E6, B3: a document of any length, chunked, with a length or delimited by the close, is forwarded completely with
/// its status; the circuit stays closed
#[tokio::test]
async fn a_document_of_any_length_is_forwarded_completely() {
    let upstream = Upstream::start(|seen| {
        let (bucket, key) = seen.target[1..].split_once('/').unwrap();
        let mut parts = key.split('-');
        let mut number = || parts.next().unwrap().parse().unwrap();
        let (status, bytes) = (number(), number());
        let code = if status == 503 { "SlowDown" } else { "AccessDenied" };
        let reply = answer(u16::try_from(status).unwrap(), &document(code, bytes));
        match (bucket, parts.next().unwrap()) {
            (_, "chunked") => reply.chunked(),
            (_, "close") => reply.until_close(),
            _ => reply,
        }
    });
    let gateway = signed(&upstream).set("buckets.b.s3.retry.max_attempts", "1").start().await;
    // With several credentials `SlowDown` would throttle each.
    for (bucket, statuses) in [("b", vec![400_u16, 403, 503]), ("two", vec![400, 403])] {
        for status in statuses {
            for bytes in [100, 8 << 10, 9 << 10, 300_000] {
                for framing in ["chunked", "length", "close"] {
                    let target = format!("/{bucket}/{status}-{bytes}-{framing}");
                    let answer = gateway.get(&target).await;
                    let code = if status == 503 { "SlowDown" } else { "AccessDenied" };
                    assert_eq!((answer.complete_status(), answer.reason()), (status, ""), "{target}");
                    assert!(answer.text() == document(code, bytes), "{target}: {} bytes", answer.body.len());
                }
            }
        }
        nothing_counts(&gateway, bucket).await;
    }
}

/// E2, T1: a slow document is classified by the first second's bytes, and forwarded completely
#[tokio::test]
async fn a_slow_document_is_forwarded_completely() {
    let text = document("AccessDenied", 12_000);
    let of_upstream = text.clone();
    let latch = Latch::new();
    let of_store = latch.clone();
    let pause = Duration::from_millis(300);
    let upstream = Upstream::start(move |seen| match seen.target.as_str() {
        "/b/late" => answer(400, "").then_body_after(pause * 5, &of_upstream).chunked(),
        "/b/held" => {
            answer(400, &of_upstream[..100]).then_body_when_open(&of_store, &of_upstream[100..]).chunked()
        }
        _ => dripped(400, &of_upstream, 1500, pause),
    });
    let gateway = signed(&upstream).start().await;
    for target in ["/b/k", "/b/late", "/two/k"] {
        let answer = gateway.get(target).await;
        assert_eq!((answer.complete_status(), answer.text()), (400, text.clone()), "{target}");
    }
    let mut client = Client::connect(gateway.address()).await;
    client.send(client::message("GET", "/b/held", &[], None)).await;
    let mut answer = client.head().await;
    assert_eq!(answer.status, 400, "the head arrives while the document is stalled");
    latch.open_for_all();
    client.body(&mut answer, "GET").await;
    assert_eq!(answer.text(), text);
    nothing_counts(&gateway, "b").await;
    assert_eq!(upstream.count(), 4);
}

/// E2, T5, T6: an endless document is streamed and cut by the idle timeout; its status is classified
#[tokio::test]
async fn a_document_that_never_ends_is_a_stream() {
    let latch = Latch::new();
    let held = latch.clone();
    let upstream = Upstream::start(move |_| {
        answer(400, &document("AccessDenied", 9000)).chunked().then_body_when_open(&held, "never")
    });
    let gateway = signed(&upstream).set("buckets.b.s3.idle_timeout", "1").start().await;
    for number in 1..=TIMES {
        let mut client = Client::connect(gateway.address()).await;
        client.send(client::message("GET", "/b/k", &[], None)).await;
        let mut answer = client.head().await;
        assert_eq!(answer.status, 400);
        if number == 1 {
            client.body(&mut answer, "GET").await;
            assert!(answer.broken.is_some() && answer.text().contains("</Error>"), "{:?}", answer.broken);
        }
    }
    gateway.wait_for_log_line("request", |line| line["reason"] == "timeout_idle").await;
    nothing_counts(&gateway, "b").await;
    latch.open_for_all();
}

/// E2, T6, R1: a truncated document is a broken transfer with the store's status. One without a code yet is retried
#[tokio::test]
async fn a_truncated_document_is_a_broken_transfer() {
    let upstream = Upstream::start(|seen| {
        let bytes = seen.target.rsplit('/').next().unwrap().parse().unwrap();
        answer(400, &document("AccessDenied", 20_000)).chunked().cut_at(bytes)
    });
    let gateway = signed(&upstream).start().await;
    for (bytes, attempts, times) in [(15_000, 1, TIMES), (4000, 1, TIMES), (50, 3, 2)] {
        for _ in 0..times {
            let before = upstream.count();
            let answer = gateway.get(&format!("/b/{bytes}")).await;
            assert_eq!((answer.status, answer.broken.is_some()), (400, true), "{bytes}: {answer:?}");
            assert_eq!(upstream.count() - before, attempts, "{bytes}");
        }
    }
    nothing_counts(&gateway, "b").await;
    let others = [(); 2].map(|()| {
        Upstream::start(|_| answer(403, &document("AccessDenied", 20_000)).chunked().cut_at(15_000))
    });
    let several = Gateway::builder()
        .bucket_at("b", &[others[0].address(), others[1].address()])
        .set("buckets.b.s3.outlier_ejection.consecutive_failures", "1")
        .start()
        .await;
    for _ in 0..TIMES {
        assert!(several.get("/b/k").await.broken.is_some());
    }
    several.wait_until_idle().await;
    for endpoint in several.status().await["buckets"]["b"]["pool"]["endpoints"].as_array().unwrap() {
        assert_eq!(endpoint["ejections"], 0, "{endpoint}");
    }
    let cut = Upstream::sequence(vec![
        answer(400, &document("AccessDenied", 20_000)).chunked().cut_at(50),
        answer(400, &document("AccessDenied", 20_000)).chunked(),
    ]);
    let gateway = signed(&cut).start().await;
    let answer = gateway.get("/b/k").await;
    assert_eq!((answer.complete_status(), cut.count()), (400, 2));
    assert_eq!(answer.text(), document("AccessDenied", 20_000));
}

/// R1, R3: a long document is retried by its status and code; its connection is closed with the rest unread
#[tokio::test]
async fn a_long_document_is_retried_by_its_code() {
    for (status, code) in [(503, "ServiceUnavailable"), (503, "SlowDown"), (400, "RequestTimeout")] {
        let failure = answer(status, &document(code, 3 << 20)).chunked();
        let upstream = Upstream::sequence(vec![failure.clone(), failure, UpstreamReply::ok("at last")]);
        let gateway = signed(&upstream).start().await;
        let answer = gateway.get("/b/k").await;
        assert_eq!((answer.complete_status(), answer.text().as_str()), (200, "at last"), "{code}");
        assert_eq!(upstream.count(), 3, "{code}");
        wait_for("connections of dropped documents are closed", || async {
            (upstream.open_connections() <= 1).then_some(())
        })
        .await;
        gateway.wait_until_idle().await;
    }
}

/// B1, B3: a 503 counts by its status, however long its document is
#[tokio::test]
async fn a_long_failure_counts_as_a_short_one() {
    let upstream = Upstream::start(|_| answer(503, &document("ServiceUnavailable", 9000)).chunked());
    let gateway = signed(&upstream).set("buckets.b.s3.retry.max_attempts", "1").start().await;
    for _ in 0..3 {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 503);
    }
    wait_for("three failures are counted", || async {
        (circuit(&gateway, "b").await["consecutive_failures"] == 3).then_some(())
    })
    .await;
}

/// C3: a long document that rejects the credential triggers the gateway's check, which parses long documents too
#[tokio::test]
async fn a_long_document_may_reject_a_credential() {
    let upstream = Upstream::start(|seen| {
        let is_first = seen.header("authorization").is_some_and(|value| value.contains("Credential=A/"));
        match is_first {
            true => answer(403, &document("InvalidAccessKeyId", 9000)).chunked(),
            false => UpstreamReply::ok("x"),
        }
    });
    let gateway = signed(&upstream).start().await;
    for _ in 0..2 {
        assert_eq!(gateway.get("/two/k").await.complete_status(), 200, "the other pair serves");
    }
    let checks = "upstream_credential_checks_total{bucket=\"two\",result=\"refused\"}";
    wait_for("a check ejects it", || async { (gateway.metric(checks).await >= 1.0).then_some(()) }).await;
}

/// E2: in the long document of a renamed bucket the name is the client's
#[tokio::test]
async fn a_long_document_is_renamed() {
    let text = |bucket: &str| {
        let tail = "y".repeat(20_000);
        format!(
            "<Error><Code>NoSuchUpload</Code><BucketName>{bucket}</BucketName><Tail>{tail}</Tail></Error>"
        )
    };
    let theirs = text("theirs");
    let upstream = Upstream::start(move |_| answer(400, &theirs).chunked());
    let gateway = signed(&upstream).set("buckets.b.s3.bucket", "theirs").start().await;
    let answer = request(gateway.address(), "GET", "/b/k", &[], None).await;
    assert_eq!((answer.complete_status(), answer.text()), (400, text("b")));
}
