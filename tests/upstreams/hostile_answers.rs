//! Hostile and broken answers of upstreams: each is a whole answer or a visible failure with a reason, and its connection is not used
//! again. `hostile_answers_http2.rs` sends the same to HTTP/2 clients. `tests/hostile_heads.rs` has long heads,
//! `src/upstream/exchange/sent_request_tests.rs` more cases in memory.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::gateway::Builder;
use crate::support::{Gateway, Upstream, UpstreamReply, get, head, wait_for};

const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

/// Targets with an answer after which a connection may be used again.
const CLEAN: [&str; 7] =
    ["/b/k", "/b/lf", "/b/reason", "/b/lower", "/b/no-reason", "/b/keeps-1.0", "/b/keep-alive"];

/// The place of a pause in an answer.
const PAUSE: &str = "(pause)";

/// Heads that can be read in two ways, or are none: 502.
pub(super) const REFUSED: [&str; 15] = [
    "both", "lengths", "negative", "huge", "coding", "nul", "fold", "switch", "old", "ssh", "two", "lower",
    "flood", "endless", "many",
];
/// Odd answers that are forwarded.
pub(super) const ODD: [&str; 14] = [
    "lf",
    "reason",
    "lower",
    "no-reason",
    "http-1.0",
    "keeps-1.0",
    "closes-1.0",
    "keep-alive",
    "keep-alive-0",
    "close",
    "after",
    "after-later",
    "second",
    "chunks",
];
/// Chunks that break the transfer.
pub(super) const BAD_CHUNKS: [&str; 9] =
    ["size", "sign", "overflow", "long", "extension", "slow-extension", "trailers", "lf", "space"];
/// Places of a reset.
pub(super) const RESETS: [&str; 8] =
    ["before", "in-head", "after-interim", "after-head", "in-body", "in-chunk", "after-chunk", "until-close"];

/// An upstream that answers `/b/k` with `HELLO` and other targets with what `answer` has for them. The connection stays open. After an
/// answer that is not clean, each request on it gets a 299.
pub(super) async fn upstream(answer: fn(&str) -> String) -> SocketAddr {
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
                    for (number, part) in reply.split(PAUSE).enumerate() {
                        if number > 0 {
                            tokio::time::sleep(Duration::from_millis(10)).await;
                        }
                        if stream.write_all(part.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    address
}

/// A gateway with a circuit that never opens.
pub(super) fn builder_before(address: SocketAddr) -> Builder {
    Gateway::builder()
        .bucket_at("b", &[address])
        .set("buckets.b.s3.retry.max_attempts", "1")
        .set("buckets.b.s3.circuit_breaker.mode", "off")
        .set("server.workers", "1")
}

async fn gateway_before(address: SocketAddr) -> Gateway {
    builder_before(address).start().await
}

/// Descriptors and connections of a gateway before hostile answers.
pub(super) struct Before {
    descriptors: usize,
}

impl Before {
    /// One connection to the upstream is idle.
    pub(super) async fn of(gateway: &Gateway) -> Self {
        Self::one_is_idle(gateway).await;
        Self { descriptors: gateway.open_descriptors() }
    }

    async fn one_is_idle(gateway: &Gateway) {
        gateway.wait_until_idle().await;
        let pool =
            async |gauge: &str| gateway.metric(&format!("connection_pool_{gauge}{{bucket=\"b\"}}")).await;
        wait_for("one connection is idle", || async {
            ((pool("idle").await, pool("active").await) == (1.0, 0.0)).then_some(())
        })
        .await;
    }

    /// Nothing is left of the hostile answers.
    pub(super) async fn is_restored(&self, gateway: &Gateway) {
        Self::one_is_idle(gateway).await;
        wait_for("no descriptor is left", || async {
            (gateway.open_descriptors() <= self.descriptors).then_some(())
        })
        .await;
    }
}

/// Sends a good request, which must get a connection that the bad answer has not spoilt.
pub(super) async fn next_is_unharmed(gateway: &Gateway, case: &str) {
    let next = gateway.get("/b/k").await;
    assert_eq!((next.complete_status(), next.text().as_str()), (200, "hello"), "after {case}");
}

pub(super) fn refused(target: &str) -> String {
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
        "/b/lower" => return "http/1.1 200 ok\r\ncontent-length: 0\r\n\r\n".to_owned(),
        "/b/endless" => return format!("HTTP/1.1 200 OK\r\nx-a: {}", "a".repeat(10 << 20)),
        "/b/many" => return format!("HTTP/1.1 200 OK\r\n{}", "x-a: a\r\n".repeat(1 << 20)),
        "/b/flood" => return "HTTP/1.1 102 Processing\r\n\r\n".repeat(10_000),
        other => panic!("{other}"),
    };
    format!("HTTP/1.1 200 OK\r\n{head}\r\n{body}")
}

/// B3, T6: a head that can be read in two ways, or is none, is 502 at once, although the connection stays open
#[tokio::test]
async fn a_head_that_is_not_clear_is_refused_at_once() {
    let gateway = gateway_before(upstream(refused).await).await;
    next_is_unharmed(&gateway, "nothing").await;
    let before = Before::of(&gateway).await;
    for case in REFUSED {
        let answer = gateway.get(&format!("/b/{case}")).await;
        assert_eq!((answer.complete_status(), answer.reason()), (502, "decode_failed"), "{case}");
        next_is_unharmed(&gateway, case).await;
    }
    before.is_restored(&gateway).await;
}

pub(super) fn odd(target: &str) -> String {
    match target {
        "/b/lf" => "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello".to_owned(),
        "/b/reason" => "HTTP/1.1 200 it's \u{fc}ber fine\r\ncontent-length: 5\r\n\r\nhello".to_owned(),
        "/b/lower" => "HTTP/1.1 200 ok\r\ncontent-length: 5\r\n\r\nhello".to_owned(),
        "/b/no-reason" => "HTTP/1.1 200\r\nCONTENT-LENGTH : 5\r\n\r\nhello".to_owned(),
        "/b/http-1.0" => "HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello".to_owned(),
        "/b/keeps-1.0" => {
            "HTTP/1.0 200 OK\r\nconnection: Keep-Alive\r\ncontent-length: 5\r\n\r\nhello".to_owned()
        }
        "/b/closes-1.0" => "HTTP/1.0 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello".to_owned(),
        "/b/keep-alive" => {
            let values = ["timeout=x", "timeout=-1", "timeout", "timeout=99999999999999999999", "=, ,max=0"];
            let fields: String = values.iter().map(|value| format!("keep-alive: {value}\r\n")).collect();
            format!("HTTP/1.1 200 OK\r\n{fields}content-length: 5\r\n\r\nhello")
        }
        "/b/keep-alive-0" => {
            "HTTP/1.1 200 OK\r\nkeep-alive: timeout=0\r\ncontent-length: 5\r\n\r\nhello".to_owned()
        }
        "/b/close" => {
            let next = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
            format!("HTTP/1.1 200 OK\r\nconnection: x, Close\r\ncontent-length: 5\r\n\r\nhello{PAUSE}{next}")
        }
        "/b/after-later" => format!("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel{PAUSE}lo and more"),
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
    next_is_unharmed(&gateway, "nothing").await;
    let before = Before::of(&gateway).await;
    for case in ODD {
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
    before.is_restored(&gateway).await;
}

/// T6: an answer without a request ends an idle connection, also if it arrives after its answer
#[tokio::test]
async fn an_answer_to_an_idle_connection_is_never_used() {
    let late = |target: &str| {
        assert_eq!(target, "/b/late");
        format!("{HELLO}{PAUSE}HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")
    };
    let gateway = gateway_before(upstream(late).await).await;
    for _ in 0..3 {
        let answer = gateway.get("/b/late").await;
        assert_eq!((answer.complete_status(), answer.text().as_str()), (200, "hello"));
        wait_for("its connection is closed", || async {
            (gateway.metric("connection_pool_idle{bucket=\"b\"}").await == 0.0).then_some(())
        })
        .await;
        assert_eq!(gateway.get("/b/late").await.text(), "hello");
        wait_for("this one too", || async {
            (gateway.metric("connection_pool_idle{bucket=\"b\"}").await == 0.0).then_some(())
        })
        .await;
    }
}

pub(super) fn bad_chunks(target: &str) -> String {
    let body = match target {
        "/b/size" => "5\r\nhello\r\nxyz\r\n".to_owned(),
        "/b/sign" => "5\r\nhello\r\n-1\r\n".to_owned(),
        "/b/overflow" => "5\r\nhello\r\nfffffffffffffffff\r\n".to_owned(),
        "/b/long" => "5\r\nhello!\r\n0\r\n\r\n".to_owned(),
        "/b/extension" => format!("5;{}\r\nhello\r\n", "x".repeat(40_000)),
        "/b/slow-extension" => {
            let pieces: Vec<String> = (0..20).map(|_| "x".repeat(1 << 10)).collect();
            format!("5;{}\r\nhello\r\n", pieces.join(PAUSE))
        }
        "/b/space" => " 5\r\nhello\r\n0\r\n\r\n".to_owned(),
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
    next_is_unharmed(&gateway, "nothing").await;
    let before = Before::of(&gateway).await;
    for case in BAD_CHUNKS {
        let answer = get(gateway.address(), &format!("/b/{case}")).await;
        assert_eq!(answer.status, 200);
        assert!(answer.broken.is_some(), "{case}: {answer:?}");
        next_is_unharmed(&gateway, case).await;
    }
    let counted = gateway.metric("errors_total{bucket=\"b\",reason=\"broken_answer\"}").await;
    assert_eq!(counted, BAD_CHUNKS.len() as f64);
    before.is_restored(&gateway).await;
}

/// An upstream that resets its connection in the place that the target names.
pub(super) fn resetting() -> Upstream {
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel";
    Upstream::start(|seen| match seen.target.as_str() {
        "/b/before" => UpstreamReply::reset(),
        "/b/in-head" => UpstreamReply::raw("HTTP/1.1 200 OK\r\ncontent-le").then_reset(),
        "/b/after-interim" => UpstreamReply::raw("HTTP/1.1 103 Early Hints\r\n\r\n").then_reset(),
        "/b/after-head" => UpstreamReply::raw("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").then_reset(),
        "/b/in-body" => UpstreamReply::raw("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel").then_reset(),
        "/b/in-chunk" => UpstreamReply::raw(CHUNKED).then_reset(),
        "/b/after-chunk" => UpstreamReply::raw(format!("{CHUNKED}lo\r\n")).then_reset(),
        "/b/until-close" => UpstreamReply::raw("HTTP/1.1 200 OK\r\n\r\nhello").then_reset(),
        _ => UpstreamReply::ok("hello"),
    })
}

/// T6, B3: a reset before, in and after each part of an answer
#[tokio::test]
async fn a_reset_in_any_place_is_a_visible_failure() {
    let upstream = resetting();
    let gateway = gateway_before(upstream.address()).await;
    next_is_unharmed(&gateway, "nothing").await;
    let before = Before::of(&gateway).await;
    for case in RESETS {
        let answer = get(gateway.address(), &format!("/b/{case}")).await;
        let is_failed =
            (answer.status, answer.reason()) == (502, "upstream_reset") || answer.broken.is_some();
        assert!(is_failed, "{case}: {answer:?}");
        next_is_unharmed(&gateway, case).await;
    }
    before.is_restored(&gateway).await;
}
