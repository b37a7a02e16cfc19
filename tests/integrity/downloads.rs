//! Answers that do not match their checksum are broken transfers.

use super::{checksums, random_bytes};
use crate::support::client::{message, sha256};
use crate::support::{Client, Gateway, Upstream, UpstreamReply, get, head, wait_until};

/// I1, T6: a body with a wrong checksum is cut in either framing; it is counted and logged, and its connection is
/// closed
#[tokio::test]
async fn an_answer_with_a_wrong_checksum_is_cut() {
    for index in 0..checksums(b"").len() {
        let chunked = index % 2 == 1;
        let upstream = Upstream::start(move |seen| {
            let data = random_bytes(300_000);
            let (name, value) = checksums(&data)[index].clone();
            let body = if seen.target == "/b/lie" { [&data[1..], b"x"].concat() } else { data };
            let reply =
                UpstreamReply::ok(body).header(name, &value).header("x-amz-checksum-type", "FULL_OBJECT");
            if chunked { reply.chunked() } else { reply }
        });
        let gateway = Gateway::in_front_of(&upstream).await;
        let right = get(gateway.address(), "/b/truth").await;
        assert_eq!((right.complete_status(), right.sha256()), (200, sha256(&random_bytes(300_000))));
        let wrong = get(gateway.address(), "/b/lie").await;
        assert!(wrong.broken.is_some(), "it is complete: {:?}", wrong.headers);
        assert_eq!(gateway.metric("errors_total{bucket=\"b\",reason=\"answer_checksum\"}").await, 1.0);
        let line = gateway.wait_for_log_line("transfer broken", |_| true).await;
        assert!(line["error"].as_str().unwrap().contains("x-amz-checksum-"), "{line}");
        gateway.wait_until_idle().await;
        // A chunked answer is found wrong only at its end, when its connection is reusable again; the connection of the
        // correct answer is idle.
        let idle_max = if chunked { 2 } else { 1 };
        wait_until("the wrong answer's connection is closed", || upstream.open_connections() <= idle_max)
            .await;
    }
}

/// I1: a composite checksum of parts is not a checksum of the body, whatever its algorithm
#[tokio::test]
async fn composite_checksums_are_not_checked() {
    let upstream = Upstream::start(|seen| {
        let (kind, name) = seen.target.trim_start_matches("/b/").split_once('/').unwrap();
        let sums = checksums(b"another body");
        let (name, value) = sums.iter().find(|(known, _)| *known == name).unwrap();
        match kind {
            "parts" => UpstreamReply::ok("body").header(name, &format!("{value}-2")),
            _ => UpstreamReply::ok("body").header(name, value).header("x-amz-checksum-type", "COMPOSITE"),
        }
    });
    let gateway = Gateway::in_front_of(&upstream).await;
    for (name, value) in checksums(b"another body") {
        for kind in ["parts", "composite"] {
            let answer = get(gateway.address(), &format!("/b/{kind}/{name}")).await;
            assert_eq!((answer.complete_status(), answer.text().as_str()), (200, "body"), "{name} {kind}");
            assert!(answer.header(name).is_some_and(|kept| kept.starts_with(&value)), "{name} {kind}");
        }
    }
}

/// I1, I2: checksums of something other than this body do not cut it
#[tokio::test]
async fn checksums_of_other_data_are_not_checked() {
    let upstream = Upstream::start(|seen| match seen.target.as_str() {
        "/b/parts" => UpstreamReply::ok("body").header("x-amz-checksum-crc32", "AAAAAA==-2"),
        "/b/composite" => UpstreamReply::ok("body")
            .header("x-amz-checksum-crc32", "AAAAAA==")
            .header("x-amz-checksum-type", "COMPOSITE"),
        "/b/range" => UpstreamReply::new(206, "body").header("x-amz-checksum-crc32", "AAAAAA=="),
        "/b/unknown" => UpstreamReply::ok("body").header("x-amz-checksum-other", "AAAAAA=="),
        _ => UpstreamReply::ok("body").header("x-amz-checksum-crc32", "AAAAAA=="),
    });
    let gateway = Gateway::in_front_of(&upstream).await;
    for target in ["/b/parts", "/b/composite", "/b/range", "/b/unknown"] {
        let answer = get(gateway.address(), target).await;
        assert!(matches!(answer.complete_status(), 200 | 206), "{target}");
        assert_eq!(answer.text(), "body", "{target}");
    }
    assert_eq!(head(gateway.address(), "/b/k").await.complete_status(), 200);
    // A short answer may be cut before its head is sent.
    let mut client = Client::connect(gateway.address()).await;
    client.send(message("GET", "/b/k", &[], None)).await;
    assert!(client.try_response("GET").await.is_none_or(|answer| answer.broken.is_some()));
}
