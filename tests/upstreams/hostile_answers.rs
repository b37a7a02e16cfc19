//! Hostile and broken answers of upstreams: each is a whole answer or a visible failure with a reason, and its connection is not used
//! again. `tests/hostile_heads.rs` has long heads, `src/upstream/exchange/sent_request_tests.rs` more cases in memory.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{Gateway, Upstream, UpstreamReply, get, head, wait_for};

const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

/// Targets with an answer after which a connection may be used again.
const CLEAN: [&str; 4] = ["/b/k", "/b/lf", "/b/reason", "/b/no-reason"];

/// An upstream that answers `/b/k` with `HELLO` and other targets with what `answer` has for them. The connection stays open. After an
/// answer that is not clean, each request on it gets a 299.
async fn upstream(answer: fn(&str) -> String) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut received, mut is_spoilt) = (Vec::new(), false);
                let mut buffer = [0; 4096];
                loop {
                    match stream.read(&mut buffer).await {
                        Ok(bytes @ 1..) => received.extend_from_slice(&buffer[..bytes]),
                        Ok(0) => return,
                        Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
                        other => panic!("{other:?}"),
                    }
                    if !received.ends_with(b"\r\n\r\n") {
                        continue;
                    }
                    let text = String::from_utf8(std::mem::take(&mut received)).unwrap();
                    let target = text.split(' ').nth(1).unwrap();
                    let reply = match target {
                        _ if is_spoilt => "HTTP/1.1 299 Reused\r\ncontent-length: 0\r\n\r\n".to_owned(),
                        "/b/k" => HELLO.to_owned(),
                        other => answer(other),
                    };
                    is_spoilt |= !CLEAN.contains(&target);
                    if stream.write_all(reply.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// A gateway with a circuit that never opens.
async fn gateway_before(address: SocketAddr) -> Gateway {
    Gateway::builder()
        .bucket_at("b", &[address])
        .set("buckets.b.s3.retry.max_attempts", "1")
        .set("buckets.b.s3.circuit_breaker.mode", "off")
        .set("server.workers", "1")
        .start()
        .await
}

/// Sends a good request, which must get a connection that the bad answer has not spoilt.
async fn next_is_unharmed(gateway: &Gateway, case: &str) {
    let next = gateway.get("/b/k").await;
    assert_eq!((next.complete_status(), next.text().as_str()), (200, "hello"), "after {case}");
}

fn refused(target: &str) -> String {
    let (head, body) = match target {
        "/b/both" => ("content-length: 5\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n"),
        "/b/lengths" => ("content-length: 5\r\ncontent-length: 6\r\n", "hello!"),
        "/b/negative" => ("content-length: -5\r\n", "hello"),
        "/b/huge" => ("content-length: 18446744073709551616\r\n", "hello"),
        "/b/coding" => ("transfer-encoding: gzip, chunked\r\n", "0\r\n\r\n"),
        "/b/nul" => ("content-length: 5\r\nx-a: a\0b\r\n", "hello"),
        "/b/fold" => ("content-length: 5\r\nx-a: a\r\n b\r\n", "hello"),
        "/b/switch" => {
            return "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"
                .to_owned();
        }
        "/b/old" => return "<html>hello</html>\r\n\r\n".to_owned(),
        "/b/ssh" => return "SSH-2.0-OpenSSH_9.6\r\n".to_owned(),
        "/b/two" => return "HTTP/2 200\r\n\r\n".to_owned(),
        "/b/flood" => return "HTTP/1.1 102 Processing\r\n\r\n".repeat(10_000),
        other => panic!("{other}"),
    };
    format!("HTTP/1.1 200 OK\r\n{head}\r\n{body}")
}

/// B3, T6: a head that can be read in two ways, or is none, is 502 at once, although the connection stays open
#[tokio::test]
async fn a_head_that_is_not_clear_is_refused_at_once() {
    let gateway = gateway_before(upstream(refused).await).await;
    for case in [
        "both", "lengths", "negative", "huge", "coding", "nul", "fold", "switch", "old", "ssh", "two",
        "flood",
    ] {
        let answer = gateway.get(&format!("/b/{case}")).await;
        assert_eq!((answer.complete_status(), answer.reason()), (502, "decode_failed"), "{case}");
        next_is_unharmed(&gateway, case).await;
    }
}

fn odd(target: &str) -> String {
    match target {
        "/b/lf" => "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello".to_owned(),
        "/b/reason" => "HTTP/1.1 200 it's \u{fc}ber fine\r\ncontent-length: 5\r\n\r\nhello".to_owned(),
        "/b/no-reason" => "HTTP/1.1 200\r\nCONTENT-LENGTH : 5\r\n\r\nhello".to_owned(),
        "/b/http-1.0" => "HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello".to_owned(),
        "/b/after" => "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello and more".to_owned(),
        "/b/second" => HELLO.to_owned() + "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
        "/b/chunks" => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2  \r\nhe\r\n3;a=\"b\"\r\nllo\r\n0\r\nx-evil: 1\r\n\r\nHTTP/1.1 200 evil\r\n\r\n".to_owned(),
        "/b/204" => "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nhello".to_owned(),
        "/b/304" => "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\nhello".to_owned(),
        other => panic!("{other}"),
    }
}

/// T6: an odd answer is forwarded whole, what follows it is not, and trailers are dropped
#[tokio::test]
async fn odd_answers_are_forwarded_and_nothing_behind_them() {
    let gateway = gateway_before(upstream(odd).await).await;
    for case in ["lf", "reason", "no-reason", "http-1.0", "after", "second", "chunks"] {
        let answer = gateway.get(&format!("/b/{case}")).await;
        assert_eq!((answer.complete_status(), answer.text().as_str()), (200, "hello"), "{case}");
        assert_eq!(answer.header("x-evil"), None);
        next_is_unharmed(&gateway, case).await;
    }
    for (case, status) in [("204", 204), ("304", 304)] {
        let answer = gateway.get(&format!("/b/{case}")).await;
        assert_eq!((answer.complete_status(), answer.text().as_str()), (status, ""), "{case}");
        next_is_unharmed(&gateway, case).await;
    }
    let answer = head(gateway.address(), "/b/after").await;
    assert_eq!((answer.complete_status(), answer.header("content-length")), (200, Some("5")));
    next_is_unharmed(&gateway, "a body after HEAD").await;
}

fn bad_chunks(target: &str) -> String {
    let body = match target {
        "/b/size" => "5\r\nhello\r\nxyz\r\n".to_owned(),
        "/b/sign" => "5\r\nhello\r\n-1\r\n".to_owned(),
        "/b/overflow" => "5\r\nhello\r\nfffffffffffffffff\r\n".to_owned(),
        "/b/long" => "5\r\nhello!\r\n0\r\n\r\n".to_owned(),
        "/b/extension" => format!("5;{}\r\nhello\r\n", "x".repeat(40_000)),
        "/b/trailers" => format!("5\r\nhello\r\n0\r\n{}", "x: y\r\n".repeat(10_000)),
        "/b/lf" => "5\nhello\n0\n\n".to_owned(),
        other => panic!("{other}"),
    };
    format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{body}")
}

/// T6, E6: chunks that are malformed or have endless framing break the transfer, and end the connection
#[tokio::test]
async fn bad_chunks_break_the_transfer() {
    let gateway = gateway_before(upstream(bad_chunks).await).await;
    for case in ["size", "sign", "overflow", "long", "extension", "trailers", "lf"] {
        let answer = get(gateway.address(), &format!("/b/{case}")).await;
        assert_eq!(answer.status, 200);
        assert!(answer.broken.is_some(), "{case}: {answer:?}");
        next_is_unharmed(&gateway, case).await;
    }
    let counted = gateway.metric("errors_total{bucket=\"b\",reason=\"broken_answer\"}").await;
    assert_eq!(counted, 7.0);
    gateway.wait_until_idle().await;
    wait_for("one connection is left", || async {
        (gateway.metric("connection_pool_idle{bucket=\"b\"}").await == 1.0).then_some(())
    })
    .await;
}

/// T6, B3: a reset before, in and after each part of an answer
#[tokio::test]
async fn a_reset_in_any_place_is_a_visible_failure() {
    let upstream = Upstream::start(|seen| match seen.target.as_str() {
        "/b/before" => UpstreamReply::reset(),
        "/b/in-head" => UpstreamReply::raw("HTTP/1.1 200 OK\r\ncontent-le").then_reset(),
        "/b/after-interim" => UpstreamReply::raw("HTTP/1.1 103 Early Hints\r\n\r\n").then_reset(),
        "/b/after-head" => UpstreamReply::raw("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").then_reset(),
        "/b/in-body" => UpstreamReply::raw("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel").then_reset(),
        "/b/in-chunk" => {
            UpstreamReply::raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel").then_reset()
        }
        "/b/until-close" => UpstreamReply::raw("HTTP/1.1 200 OK\r\n\r\nhello").then_reset(),
        _ => UpstreamReply::ok("hello"),
    });
    let gateway = gateway_before(upstream.address()).await;
    for case in ["before", "in-head", "after-interim", "after-head", "in-body", "in-chunk", "until-close"] {
        let answer = get(gateway.address(), &format!("/b/{case}")).await;
        let is_failed =
            (answer.status, answer.reason()) == (502, "upstream_reset") || answer.broken.is_some();
        assert!(is_failed, "{case}: {answer:?}");
        next_is_unharmed(&gateway, case).await;
    }
}
