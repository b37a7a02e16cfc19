//! Limits of the admin listener: clients that send nothing, read nothing or come in numbers do not stop the others.

use std::net::SocketAddr;

use super::{OPERATOR, bearer, builder, code, send_own, with_tokens};
use crate::support::client::message;
use crate::support::gateway::Builder;
use crate::support::{Client, Gateway, Upstream, get, wait_for, wait_until};

const HOSTILE: [u8; 4] = [127, 0, 0, 2];
/// Requests on one connection. Their responses together exceed all socket buffers.
const PIPELINED: usize = 200;
/// A login by form. Its token never arrives.
const SLOW_LOGIN: &str = "POST /session HTTP/1.1\r\nhost: localhost\r\ncontent-length: 60\r\n\
                          content-type: application/x-www-form-urlencoded\r\n\r\ntoken=";

fn limited(upstream: &Upstream, max: &str) -> Builder {
    builder(upstream).set("admin.max_connections", max)
}

/// A client that asks for many responses and reads none.
async fn stuck_reader(address: SocketAddr, target: &str, headers: &[(&str, &str)]) -> Client {
    let mut client = Client::connect_from(HOSTILE, address, Some(1)).await;
    // The gateway stops reading while its response is not read, and closes a connection of the reserve.
    let _ = tokio::time::timeout(
        std::time::Duration::from_millis(200),
        client.try_send(message("GET", target, headers, None).repeat(PIPELINED)),
    )
    .await;
    client
}

/// X3: 100 connections that send a part of a head, or nothing, leave the status and the probes within reach
#[tokio::test]
async fn stuck_connections_do_not_stop_the_status() {
    let upstream = Upstream::ok("x");
    let gateway = limited(&upstream, "8").set("server.header_timeout", "3600").start().await;
    let mut stuck = Vec::new();
    for number in 0..100 {
        let mut client = Client::connect_from(HOSTILE, gateway.admin_address(), None).await;
        if number % 2 == 0 {
            client.send("GET /status HTTP/1.1\r\nhost: loc").await;
        }
        stuck.push(client);
    }
    for _ in 0..3 {
        for path in ["/status", "/livez", "/readyz", "/-/livez", "/-/readyz"] {
            assert_eq!(get(gateway.admin_address(), path).await.complete_status(), 200, "{path}");
        }
    }
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    drop(stuck);
}

/// X3: readers that take nothing hold the ordinary places: others get 503, the status and probes answer, and a write
/// timeout frees the places
#[tokio::test]
async fn stuck_readers_leave_the_reserve_and_are_closed() {
    let upstream = Upstream::ok("x");
    let gateway = limited(&upstream, "4").set("server.write_stall_timeout", "3").start().await;
    let address = gateway.admin_address();
    let mut stuck = Vec::new();
    for _ in 0..4 {
        stuck.push(stuck_reader(address, "/metrics", &[]).await);
    }
    let refused = get(address, "/metrics").await;
    assert_eq!((refused.complete_status(), code(&refused).as_str()), (503, "too_many_connections"));
    assert_eq!((refused.retry_after(), refused.header("connection")), (Some(1), Some("close")));
    for _ in 0..8 {
        stuck.push(stuck_reader(address, "/metrics", &[]).await);
        for path in ["/status", "/livez", "/readyz"] {
            let answer = get(address, path).await;
            assert_eq!(answer.complete_status(), 200, "{path}");
        }
    }
    wait_for("the readers are closed", || async {
        let answer = get(address, "/metrics").await;
        (answer.complete_status() == 200 && answer.header("connection") != Some("close")).then_some(())
    })
    .await;
    drop(stuck);
}

/// X3: readers that take nothing of the status cannot keep the reserve
#[tokio::test]
async fn the_reserve_is_not_kept() {
    let upstream = Upstream::ok("x");
    let gateway = limited(&upstream, "2").set("server.write_stall_timeout", "3600").start().await;
    let address = gateway.admin_address();
    let mut stuck = Vec::new();
    for _ in 0..12 {
        stuck.push(stuck_reader(address, "/status", &[]).await);
    }
    for _ in 0..5 {
        for path in ["/status", "/livez"] {
            assert_eq!(get(address, path).await.complete_status(), 200, "{path}");
        }
    }
    drop(stuck);
}

/// X3: clients without a token hold no connection with answers that they do not read, and none with a slow login
#[tokio::test]
async fn strangers_do_not_use_up_the_connections() {
    let upstream = Upstream::ok("x");
    let gateway = with_tokens(&upstream)
        .set("admin.max_connections", "4")
        .set("server.write_stall_timeout", "3600")
        .set("server.header_timeout", "1")
        .start()
        .await;
    let address = gateway.admin_address();
    let served = || async {
        let mut client = Client::connect(address).await;
        client.send(message("GET", "/metrics", &[("authorization", &bearer(OPERATOR))], None)).await;
        (client.response("GET").await.complete_status() == 200).then_some(())
    };
    let mut slow = Client::connect_from(HOSTILE, address, None).await;
    slow.send(SLOW_LOGIN).await;
    let answer = slow.response("POST").await;
    assert_eq!((answer.complete_status(), code(&answer).as_str()), (408, "timeout"));
    let mut strangers = Vec::new();
    for target in ["/metrics", "/livez", "/session"] {
        for _ in 0..6 {
            if target == "/session" {
                let mut client = Client::connect_from(HOSTILE, address, None).await;
                client.send(SLOW_LOGIN).await;
                strangers.push(client);
            } else {
                strangers.push(stuck_reader(address, target, &[]).await);
            }
        }
        wait_for("an operator is served", served).await;
    }
    drop(strangers);
}

/// X3: as many slow logins as the listener has connections lock no operator out, neither by token nor by form
#[tokio::test]
async fn slow_logins_lock_no_operator_out() {
    let upstream = Upstream::ok("x");
    let gateway = with_tokens(&upstream).set("server.header_timeout", "3600").start().await;
    let before = gateway.open_descriptors();
    let mut strangers = Vec::new();
    for _ in 0..64 {
        let mut client = Client::connect_from(HOSTILE, gateway.admin_address(), None).await;
        client.send(SLOW_LOGIN).await;
        strangers.push(client);
    }
    let mut refused = 0;
    for client in &mut strangers {
        let answer = client.response("POST").await;
        assert_eq!(answer.header("connection"), Some("close"));
        match (answer.complete_status(), code(&answer).as_str()) {
            (503, "too_many_connections") => {
                assert_eq!(answer.retry_after(), Some(1));
                assert!(answer.text().contains("Authorization"), "{}", answer.text());
                refused += 1;
            }
            other => assert_eq!(other, (408, "timeout")),
        }
    }
    assert!(refused > 0, "a few logins at most wait for their forms");
    for client in &mut strangers {
        assert!(client.is_closed().await, "a refused login is the last request of its connection");
    }
    // The gateway reads for a second what clients of closed connections still send.
    drop(strangers);
    wait_until("the places of the ended logins are free", || gateway.open_descriptors() <= before + 8).await;
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let mut client = Client::connect_from(HOSTILE, gateway.admin_address(), None).await;
        client.send(SLOW_LOGIN).await;
        waiting.push(client);
    }
    let by_token = [("authorization", bearer(OPERATOR))];
    let by_token = by_token.each_ref().map(|(name, value)| (*name, value.as_str()));
    assert_eq!(send_own(&gateway, "GET", "/metrics", &by_token).await.complete_status(), 200);
    assert_eq!(send_own(&gateway, "POST", "/session", &by_token).await.complete_status(), 204);
    for client in &mut waiting {
        client.response("POST").await;
    }
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let mut client = Client::connect(gateway.admin_address()).await;
    let body = format!("token={OPERATOR}");
    client.send(message("POST", "/session", &form, Some(body.as_bytes()))).await;
    assert_eq!(client.response("POST").await.complete_status(), 303, "ended logins have left their places");
}

/// X3: an answer to a client without a token is the last of its connection, so pipelined requests cannot fill it; an
/// operator's connection stays
#[tokio::test]
async fn answers_to_strangers_close() {
    let upstream = Upstream::ok("x");
    let gateway = with_tokens(&upstream).start().await;
    let operate = bearer(OPERATOR);
    let (own, evil) = (("host", "localhost"), ("host", "evil.test"));
    for (target, headers, status, is_kept) in [
        ("/metrics", vec![own], 401, false),
        ("/status", vec![own, ("authorization", "Bearer x")], 401, false),
        ("/status", vec![evil], 403, false),
        ("/livez", vec![own], 200, false),
        ("/status", vec![own, ("authorization", operate.as_str())], 200, true),
    ] {
        let head: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let mut client = Client::connect(gateway.admin_address()).await;
        client.send(format!("GET {target} HTTP/1.1\r\n{head}\r\n").repeat(2)).await;
        let first = client.response("GET").await;
        assert_eq!(first.complete_status(), status, "{target} {headers:?}");
        assert_eq!(first.header("connection") != Some("close"), is_kept, "{target} {headers:?}");
        let second = client.try_response("GET").await;
        assert_eq!(second.is_some(), is_kept, "{target} {headers:?}");
    }
    let open = builder(&upstream).start().await;
    let mut client = Client::connect(open.admin_address()).await;
    client.send(message("GET", "/livez", &[], None).repeat(2)).await;
    for _ in 0..2 {
        assert_eq!(
            client.response("GET").await.complete_status(),
            200,
            "without tokens probes keep the connection"
        );
    }
}

/// X3: a connection of the reserve ends by itself, whether it sends nothing, a part of a head or one request
#[tokio::test]
async fn connections_of_the_reserve_end() {
    let upstream = Upstream::ok("x");
    let gateway = with_tokens(&upstream)
        .set("admin.max_connections", "1")
        .set("server.header_timeout", "3600")
        .set("server.keep_alive", "3600")
        .start()
        .await;
    let address = gateway.admin_address();
    // An operator's request that is not complete holds the one ordinary place.
    let mut holder = Client::connect(address).await;
    let authorization = bearer(OPERATOR);
    holder
        .send(format!(
            "POST /explain HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\
             authorization: {authorization}\r\n\r\n{{"
        ))
        .await;
    let metrics = || message("GET", "/metrics", &[("authorization", &bearer(OPERATOR))], None);
    wait_for("the place is held", || async {
        let mut client = Client::connect(address).await;
        client.send(metrics()).await;
        (client.response("GET").await.complete_status() == 503).then_some(())
    })
    .await;
    for sent in ["", "GET /status HTTP/1.1\r\nhost: loc"] {
        let mut client = Client::connect(address).await;
        client.send(sent).await;
        assert!(client.is_closed().await, "{sent:?}");
    }
    let mut client = Client::connect(address).await;
    client.send(message("GET", "/status", &[("authorization", &bearer(OPERATOR))], None)).await;
    assert_eq!(client.response("GET").await.complete_status(), 200);
    assert!(client.is_closed().await, "one request for each connection of the reserve");
    drop(holder);
}

/// X3: kept connections without a request give way to new ones
#[tokio::test]
async fn idle_connections_give_way() {
    let upstream = Upstream::ok("x");
    let gateway = limited(&upstream, "4").start().await;
    let mut kept = Vec::new();
    for number in 0..40 {
        let mut client = Client::connect(gateway.admin_address()).await;
        client.send(message("GET", "/status", &[], None)).await;
        assert_eq!(client.response("GET").await.complete_status(), 200, "{number}");
        kept.push(client);
    }
    let scraped =
        || async { (get(gateway.admin_address(), "/metrics").await.complete_status() == 200).then_some(()) };
    wait_for("a scraper is served", scraped).await;
    assert!(kept[0].is_closed().await, "the one that was idle longest was closed");
}

/// X3, G4: a reader that takes nothing does not delay the end of the process, and nothing counts as cut off
#[tokio::test]
async fn stuck_readers_do_not_delay_the_end() {
    let upstream = Upstream::ok("x");
    let mut gateway: Gateway = limited(&upstream, "4").start().await;
    let mut stuck = Vec::new();
    for _ in 0..4 {
        stuck.push(stuck_reader(gateway.admin_address(), "/metrics", &[]).await);
    }
    gateway.send_sigterm();
    assert_eq!(gateway.wait_exit().await.code(), Some(0), "{:?}", gateway.raw_log());
    drop(stuck);
}
