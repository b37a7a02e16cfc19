//! Stores that fail or return invalid lists: the answer is a 503 that names the section, never an incomplete list.

use std::time::Duration;

use super::{DATE, list, names, section, send_signed, send_signed_with, store, texts, with_key, xml};
use crate::support::{Gateway, Response, Upstream, UpstreamReply, client, get};

fn many(buckets: usize) -> String {
    let buckets: Vec<String> = (0..buckets).map(|number| format!("bad-{number:06}")).collect();
    list(&buckets.iter().map(String::as_str).collect::<Vec<_>>())
}

fn assert_incomplete(answer: &Response, what: &str) {
    assert_eq!(
        (answer.complete_status(), answer.reason()),
        (503, "bucket_list_incomplete"),
        "{what}: {}",
        answer.text()
    );
    assert!(answer.text().contains("section `bad`"), "{what}: {}", answer.text());
    assert!(texts(answer, "Name").is_empty() && !answer.text().contains("good-1"), "{what}");
    assert!(answer.retry_after().is_some_and(|seconds| seconds >= 1), "{what}");
}

/// A healthy section, and one on this store.
async fn with_healthy_section(bad: &Upstream) -> (Gateway, Upstream) {
    let good = store(&["good-1"]);
    let builder = section(section(with_key("*"), "good", "good-*", &good), "bad", "bad-*", bad)
        .set("buckets.bad.s3.retry.max_attempts", "1")
        .set("buckets.bad.s3.timeout", "1")
        .set("buckets.bad.s3.idle_timeout", "1");
    (builder.start().await, good)
}

/// E2, E6: an answer that is not a complete bucket list fails the request
#[tokio::test]
async fn a_store_without_a_whole_list_makes_the_answer_a_503() {
    let whole = list(&["bad-1"]);
    let cases = [
        ("100,000 buckets", xml(many(100_000))),
        ("10,001 buckets of the section", xml(many(10_001))),
        ("100,000 buckets in chunks", xml(many(100_000)).chunked()),
        ("a page of HTML", UpstreamReply::ok("<!DOCTYPE html><html><body>Welcome</body></html>")),
        ("HTML that is XML", xml("<html><Buckets><Bucket><Name>bad-1</Name></Bucket></Buckets></html>")),
        ("no document", xml("")),
        ("an error in a 200", xml("<Error><Code>InternalError</Code></Error>")),
        ("JSON", UpstreamReply::ok("{\"Buckets\":[{\"Name\":\"bad-1\"}]}")),
        ("a refusal", UpstreamReply::s3_error(403, "AccessDenied")),
        ("a failure", UpstreamReply::s3_error(500, "InternalError")),
        ("another place", UpstreamReply::status(301).header("location", "https://elsewhere.test/")),
        ("no content", UpstreamReply::status(204)),
        ("a document without its end", xml(&whole[..whole.len() - 30])),
        ("an answer cut in the middle", xml(&whole).cut_at(whole.len() / 2)),
        ("chunks cut in the middle", xml(&whole).chunked().cut_at(whole.len() / 2)),
        ("no answer", UpstreamReply::hang()),
        ("an answer that stops", xml(&whole[..100]).then_body_after(Duration::from_secs(60), &whole[100..])),
        ("a reset", UpstreamReply::reset()),
        ("no HTTP", UpstreamReply::raw("SSH-2.0-OpenSSH_9\r\n")),
        ("nested elements", xml(format!("<ListAllMyBucketsResult>{}", "<a>".repeat(100_000)))),
        ("pages without an end", xml(whole.replace("</L", "<ContinuationToken>same</ContinuationToken></L"))),
    ];
    for (what, reply) in cases {
        let bad = Upstream::start(move |_| reply.clone());
        let (gateway, _good) = with_healthy_section(&bad).await;
        let answer = send_signed(&gateway, "/").await;
        assert_incomplete(&answer, what);
        assert!(bad.count() > 0, "{what}");
        let line = gateway.wait_for_access_line(answer.header("x-request-id").unwrap()).await;
        assert_eq!((&line["bucket"], &line["status"]), (&"bad".into(), &503.into()), "{what}");
        gateway.wait_until_idle().await;
    }
}

/// E2: the store's error code is in the answer
#[tokio::test]
async fn the_stores_error_code_is_reported() {
    let bad = Upstream::start(|_| UpstreamReply::s3_error(403, "AccessDenied"));
    let (gateway, _good) = with_healthy_section(&bad).await;
    let text = send_signed(&gateway, "/").await.text();
    let text_part = "its store responded with 403 AccessDenied; its credentials may not list buckets (s3:ListAllMyBuckets)";
    assert!(text.contains(text_part), "{text}");
}

/// E2: the code of a long error document is reported too, chunked or with a length, signed or not
#[tokio::test]
async fn the_code_of_a_long_error_is_reported() {
    for (bytes, is_chunked, is_signed) in
        [(20_000, false, true), (200_000, true, true), (20_000, true, false), (60_000, false, false)]
    {
        let bad = Upstream::start(move |_| {
            let padding = format!("</Message><Padding>{}</Padding>", "x".repeat(bytes));
            let document = format!("<Error><Code>AccessDenied</Code><Message>m{padding}</Error>");
            let reply = UpstreamReply::new(403, document).header("content-type", "application/xml");
            if is_chunked { reply.chunked() } else { reply }
        });
        let good = store(&["good-1"]);
        let builder = section(with_key("*"), "good", "good-*", &good);
        let builder = match is_signed {
            true => section(builder, "bad", "bad-*", &bad),
            false => builder
                .bucket("bad", &bad)
                .set("buckets.bad.pattern", "bad-*")
                .set("buckets.bad.auth", "sigv4"),
        };
        let gateway = builder.start().await;
        let answer = send_signed(&gateway, "/").await;
        assert_incomplete(&answer, "a long document");
        assert!(answer.text().contains("its store responded with 403 AccessDenied"), "{}", answer.text());
        gateway.wait_until_idle().await;
    }
}

/// E6: the bounds of names and bytes apply to all pages of a store together, and the answer names the exceeded bound
#[tokio::test]
async fn the_bounds_hold_for_all_pages_together() {
    let page = |from: usize, padding: usize| {
        let names: Vec<String> = (from..from + 4000).map(|number| format!("bad-{number:06}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let end = format!("<ContinuationToken>{from}</ContinuationToken></ListAllMyBucketsResult>");
        list(&names).replace("</ListAllMyBucketsResult>", &(" ".repeat(padding) + &end))
    };
    for (padding, pages, text_part) in [
        (0, 3, "more than 10000 buckets of the section"),
        (3 << 20, 2, "the pages of its store have more than 4194304 bytes"),
    ] {
        let bad = Upstream::start(move |seen| {
            let token = seen.target.split_once("continuation-token=").map_or("0", |(_, token)| token);
            xml(page(token.parse::<usize>().unwrap() + 4000, padding))
        });
        let (gateway, _good) = with_healthy_section(&bad).await;
        let answer = send_signed(&gateway, "/").await;
        assert_incomplete(&answer, text_part);
        assert!(answer.text().contains(text_part), "{}", answer.text());
        assert_eq!(bad.count(), pages, "{text_part}");
        gateway.wait_until_idle().await;
    }
}

/// Names that no client could use are omitted, whatever they contain, and the list stays valid XML
#[tokio::test]
async fn unusable_names_are_omitted() {
    let odd = Upstream::start(|_| {
        let long = "x".repeat(5000);
        xml(list(&[
            "good",
            "a&lt;b&gt;",
            "a&amp;b",
            "x y",
            "&#97;bc",
            "é",
            "..%2f",
            "a/b",
            "",
            &long,
            "good",
        ]))
    });
    let gateway = section(with_key("*"), "all", "*", &odd).start().await;
    let answer = send_signed(&gateway, "/").await;
    assert_eq!(names(&answer), ["abc", "good"]);
    assert_eq!(texts(&answer, "CreationDate"), [DATE; 2]);
}

/// B3: a store without ListBuckets still serves its objects, so the circuit stays closed
#[tokio::test]
async fn an_invalid_list_opens_no_circuit() {
    let bad = Upstream::start(|seen| match seen.target.starts_with("/?") {
        true => UpstreamReply::ok("<html>"),
        false => UpstreamReply::ok("x"),
    });
    let (gateway, _good) = with_healthy_section(&bad).await;
    for _ in 0..20 {
        assert_incomplete(&send_signed(&gateway, "/").await, "HTML");
    }
    assert_eq!(send_signed(&gateway, "/bad-1?list-type=2").await.complete_status(), 200);
    assert_eq!(send_signed(&gateway, "/bad-1/k").await.complete_status(), 200);
}

/// B1, B2: list failures count in the list circuit, and an open circuit ends the calls to the store
#[tokio::test]
async fn an_open_circuit_prevents_the_call() {
    let bad = Upstream::start(|seen| match seen.target.starts_with("/?") {
        true => UpstreamReply::s3_error(500, "InternalError"),
        false => UpstreamReply::ok("x"),
    });
    let (gateway, _good) = with_healthy_section(&bad).await;
    for _ in 0..5 {
        assert_incomplete(&send_signed(&gateway, "/").await, "500");
    }
    assert_eq!(bad.count(), 5);
    let refused = send_signed(&gateway, "/").await;
    assert_incomplete(&refused, "open circuit");
    assert!(refused.retry_after().is_some_and(|seconds| seconds > 1), "the open time ends");
    assert_eq!(bad.count(), 5);
    let line = gateway.wait_for_access_line(refused.header("x-request-id").unwrap()).await;
    assert_eq!(line["detail"], "breaker_open");
    assert_eq!(
        send_signed(&gateway, "/bad-1/k").await.complete_status(),
        200,
        "reads have their own circuit"
    );
}

/// P3: without a permit of the section's gate the store is not called
#[tokio::test]
async fn a_full_gate_prevents_the_call() {
    let bad =
        Upstream::start(
            |seen| if seen.target == "/bad-1/slow" { UpstreamReply::hang() } else { xml(list(&[])) },
        );
    let good = store(&["good-1"]);
    let builder = section(section(with_key("*"), "good", "good-*", &good), "bad", "bad-*", &bad)
        .set("buckets.bad.auth", "sigv4,anonymous")
        .set("buckets.bad.s3.concurrency.max_concurrent", "1")
        .set("buckets.bad.s3.concurrency.max_queued", "0");
    let gateway = builder.start().await;
    let mut holder = client::Client::connect(gateway.address()).await;
    holder.send(client::message("GET", "/bad-1/slow", &[], None)).await;
    bad.wait_until_in_flight(1).await;
    let refused = send_signed(&gateway, "/").await;
    assert_incomplete(&refused, "full gate");
    let line = gateway.wait_for_access_line(refused.header("x-request-id").unwrap()).await;
    assert!(line["detail"].as_str().unwrap().starts_with("queue_full"), "{line}");
    assert_eq!(bad.count(), 1);
    drop(holder);
    gateway.wait_until_idle().await;
    assert_eq!(names(&send_signed(&gateway, "/").await), ["good-1"]);
}

/// T1, T3: the client's deadline ends the calls and counts as no failure of a store
#[tokio::test]
async fn the_clients_deadline_ends_the_calls() {
    let bad = Upstream::start(|seen| {
        if seen.target.starts_with("/?") { UpstreamReply::hang() } else { UpstreamReply::ok("x") }
    });
    // With one section only: on a busy machine a second one could time out.
    let gateway = section(with_key("*"), "bad", "bad-*", &bad)
        .set("buckets.bad.s3.retry.max_attempts", "1")
        .set("buckets.bad.s3.timeout", "1")
        .start()
        .await;
    for _ in 0..6 {
        assert_incomplete(&send_signed_with(&gateway, "/", &[("x-request-timeout", "50ms")]).await, "50 ms");
    }
    assert_eq!(
        send_signed(&gateway, "/bad-1?list-type=2").await.complete_status(),
        200,
        "the circuit is closed"
    );
    let unreadable = send_signed_with(&gateway, "/", &[("x-request-timeout", "soon")]).await;
    assert_eq!((unreadable.complete_status(), unreadable.reason()), (400, "deadline"));
    gateway.wait_until_idle().await;
}

/// A4: exact bucket names are listed without a call to a store
#[tokio::test]
async fn exact_names_are_listed_without_a_store() {
    let bad = Upstream::start(|_| UpstreamReply::reset());
    let gateway = section(with_key("*"), "bad", "bad-*", &bad).bucket("photos", &bad).start().await;
    assert_eq!(names(&get(gateway.address(), "/").await), ["photos"]);
    assert_eq!(bad.count(), 0);
}

/// A5, G4: the store of a draining section is not called, and the error names the section that the list would lack
#[tokio::test]
async fn a_draining_section_is_not_listed() {
    let store = store(&["logs-a"]);
    let gateway = section(with_key("logs-a"), "logs", "logs-*", &store).start().await;
    assert_eq!(names(&send_signed(&gateway, "/").await), ["logs-a"]);
    assert_eq!(gateway.post("/drain?bucket=logs").await.complete_status(), 200);
    let answer = send_signed(&gateway, "/").await;
    assert_eq!((answer.complete_status(), answer.reason()), (503, "bucket_list_incomplete"));
    assert!(answer.text().contains("an operator drains this bucket"), "{}", answer.text());
    assert_eq!(store.count(), 1);
}
