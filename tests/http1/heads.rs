//! Request lines and headers: accepted forms, refused forms, and the effect of other bytes on the connection.

use super::{answers, statuses};
use crate::support::{Client, Gateway, Response, Upstream, UpstreamReply, client};

/// V1: a bare LF ends no line, at any position; the connection closes after the 400
#[tokio::test]
async fn lines_end_with_crlf() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    let next = "GET /b/smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    for bytes in [
        "GET /b/k HTTP/1.1\nhost: a\r\n\r\n",
        "GET /b/k HTTP/1.1\r\nhost: a\n\r\n",
        "GET /b/k HTTP/1.1\r\nhost: a\r\nx: y\nz: w\r\n\r\n",
        "GET /b/k HTTP/1.1\r\nhost: a\r\n\n",
        "GET /b/k HTTP/1.1\nhost: a\n\n",
        "\nGET /b/k HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET /b/k HTTP/1.1\r\nhost: a\r\nx: y\rz\r\n\r\n",
    ] {
        let answers = answers(&gateway, format!("{bytes}{next}")).await;
        assert_eq!(answers.iter().map(Response::complete_status).collect::<Vec<_>>(), [400], "{bytes:?}");
        assert_eq!((answers[0].body.len(), answers[0].header("connection")), (0, Some("close")), "{bytes:?}");
    }
    assert_eq!(upstream.seen().len(), 0, "{:?}", upstream.seen());
    gateway.wait_for_log_line("request", |line| line["reason"] == "malformed").await;
}

/// V1, V5: a fragment is refused, because it would truncate the target
#[tokio::test]
async fn a_fragment_is_refused() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    for target in ["/b/a#b", "/b/a?x#", "#", "http://a/b/k#x"] {
        let put = format!("PUT {target} HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx");
        assert_eq!(statuses(&gateway, put).await, [400], "{target}");
    }
    assert_eq!(upstream.count(), 0);
    assert_eq!(gateway.get("/b/a%23b").await.complete_status(), 200, "an encoded key may contain it");
}

/// V1: exactly one `Host` with a host and an optional port is accepted
#[tokio::test]
async fn a_host_header_must_be_a_valid_host() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    let asked = async |version: &str, lines: &str| {
        let mut client = Client::connect(gateway.address()).await;
        client.send(format!("GET /b/k HTTP/{version}\r\n{lines}\r\n")).await;
        client.response("GET").await
    };
    for host in [
        "user@a",
        "user:secret@a",
        "a/path",
        "a, b",
        "a,b",
        "",
        " ",
        "a b",
        "a?x",
        "a:b",
        "a:99999",
        "[::1",
        "http://a",
    ] {
        for version in ["1.1", "1.0"] {
            let answer = asked(version, &format!("host: {host}\r\n")).await;
            assert_eq!((answer.complete_status(), answer.reason()), (400, "host"), "{version} {host:?}");
            assert_eq!(answer.header("connection"), Some("close"), "{host:?}");
        }
    }
    assert_eq!(upstream.count(), 0);
    for host in ["a", "A.example:8080", "127.0.0.1", "[::1]:80", "a_b.example.", "a:"] {
        assert_eq!(asked("1.1", &format!("host: {host}\r\n")).await.complete_status(), 200, "{host:?}");
    }
    assert_eq!(asked("1.0", "").await.complete_status(), 200, "HTTP/1.0 may do without");
}

/// V1, V5: an absolute target is accepted if its authority equals `Host`
#[tokio::test]
async fn an_absolute_target_is_accepted_if_it_names_the_host() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    let asked = async |version: &str, target: &str, lines: &str| {
        let mut client = Client::connect(gateway.address()).await;
        client.send(format!("GET {target} HTTP/{version}\r\n{lines}\r\n")).await;
        client.response("GET").await
    };
    for (version, target, lines) in [
        ("1.1", "http://a.test/b/k%2F?x=%20", "host: a.test\r\n"),
        ("1.1", "https://A.test:8080/b/k%2F?x=%20", "host: a.test:8080\r\n"),
        ("1.0", "http://a.test/b/k%2F?x=%20", ""),
    ] {
        assert_eq!(asked(version, target, lines).await.complete_status(), 200, "{target}");
        assert_eq!(upstream.last().target, "/b/k%2F?x=%20");
    }
    let before = upstream.count();
    for (target, lines, reason) in [
        ("http://other.test/b/k", "host: a.test\r\n", "host"),
        ("http://a.test:80/b/k", "host: a.test\r\n", "host"),
        ("http://user@a.test/b/k", "host: a.test\r\n", "host"),
        ("http://user@a.test/b/k", "host: user@a.test\r\n", "host"),
        ("http://a.test/b/k", "", "host"),
        ("http://a.test/b/k", "host: a.test\r\nhost: a.test\r\n", "host"),
        ("ftp://a.test/b/k", "host: a.test\r\n", "target"),
    ] {
        let answer = asked("1.1", target, lines).await;
        assert_eq!((answer.complete_status(), answer.reason()), (400, reason), "{target} {lines:?}");
    }
    assert_eq!(upstream.count(), before);
    let answer = asked("1.1", "http://a.test", "host: a.test\r\n").await;
    assert!(
        answer.complete_status() == 200 && answer.text().contains("ListAllMyBuckets"),
        "{}",
        answer.text()
    );
}

/// V1, T4: a request that arrives byte by byte after an empty line is served normally
#[tokio::test]
async fn a_request_may_arrive_byte_by_byte() {
    let upstream = Upstream::ok("stored");
    let gateway = Gateway::in_front_of(&upstream).await;
    let chunks = "3;x=y\r\nabc\r\n0a\r\n0123456789\r\n0\r\nt: v\r\n\r\n";
    let bytes = format!("\r\nPUT /b/k HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunks}");
    let mut slow = Client::connect(gateway.address()).await;
    for round in 0..2 {
        for byte in bytes.as_bytes() {
            slow.send([*byte]).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(slow.response("PUT").await.complete_status(), 200, "round {round}");
        assert_eq!(upstream.last().body, b"abc0123456789");
    }
}

/// V1, V7: an unknown expectation is ignored and not forwarded
#[tokio::test]
async fn another_expectation_is_ignored() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    let put =
        "PUT /b/k HTTP/1.1\r\nhost: a\r\nexpect: 200-ok\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx";
    let got = answers(&gateway, put).await;
    assert_eq!(got.iter().map(Response::complete_status).collect::<Vec<_>>(), [200]);
    assert!(upstream.last().headers_named("expect").is_empty());
    assert_eq!(upstream.last().body, b"x");
}

/// V1: a stored upload gets its answer although garbage follows it; then the gateway sends 400
#[tokio::test]
async fn a_valid_request_keeps_its_answer_whatever_follows() {
    let upstream = Upstream::start(|_| UpstreamReply::ok("stored"));
    let gateway = Gateway::in_front_of(&upstream).await;
    let put = "PUT /b/k HTTP/1.1\r\nhost: a\r\nx-request-id: stored\r\ncontent-length: 1\r\n\r\nx";
    for garbage in ["GARBAGE\r\n\r\n", "GET / HTTP/1.1\n\n", "\0\0\0\0", "GET /b/k HTTP/1.1\r\nx : y\r\n\r\n"]
    {
        assert_eq!(statuses(&gateway, format!("{put}{garbage}")).await, [200, 400], "{garbage:?}");
    }
    let line = gateway.wait_for_access_line("stored").await;
    assert_eq!((&line["status"], &line["reason"]), (&200.into(), &serde_json::Value::Null));
    let three: String = ["1", "2", "3"].map(|key| put.replace("/b/k", &format!("/b/{key}"))).concat();
    assert_eq!(statuses(&gateway, format!("{three}GARBAGE\r\n\r\n")).await, [200, 200, 200, 400]);
    let seen = upstream.seen().len();
    assert_eq!(seen, 7);
}

/// V1, P1: many requests in one packet are answered in order
#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::start(|seen| UpstreamReply::ok(&seen.target));
    let gateway = Gateway::in_front_of(&upstream).await;
    let mut pipelining = Client::connect(gateway.address()).await;
    let one = |number: usize| match number % 3 {
        0 => client::message("GET", &format!("/b/{number}"), &[], None),
        1 => client::message("PUT", &format!("/b/{number}"), &[], Some(&vec![b'x'; number * 7])),
        _ => [
            client::message("PUT", &format!("/b/{number}"), &[("transfer-encoding", "chunked")], None),
            b"3\r\nabc\r\n0\r\n\r\n".to_vec(),
        ]
        .concat(),
    };
    pipelining.send((0..200).flat_map(one).collect::<Vec<u8>>()).await;
    for number in 0..200 {
        let answer = pipelining.response("GET").await;
        assert_eq!((answer.complete_status(), answer.text()), (200, format!("/b/{number}")));
    }
}

/// V2: an endless line or head is refused while it arrives, and takes little memory
#[tokio::test]
async fn endless_heads_are_refused_while_they_arrive() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    for (start, piece, status) in [
        ("GET /b/", "kkkkkkkk", 414),
        ("GET /b/k HTTP/1.1\r\nhost: a\r\nx: ", "vvvvvvvv", 431),
        ("GET /b/k HTTP/1.1\r\nhost: a\r\n", "x: v\r\n", 431),
    ] {
        let mut endless = Client::connect(gateway.address()).await;
        endless.send(start).await;
        let piece = piece.repeat(4096);
        // The gateway may close before it has read all bytes.
        while endless.try_send(&piece).await.is_ok() {}
        if let Some(answer) = endless.try_response("GET").await {
            assert_eq!(answer.complete_status(), status, "{start}");
        }
    }
    assert_eq!(gateway.metric("unrouted_total{reason=\"head_too_large\"}").await, 3.0);
    assert_eq!(upstream.count(), 0);
}
