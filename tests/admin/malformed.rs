//! Hostile requests to the admin listener: odd credentials, long heads and bodies.

use super::{OPERATOR, bearer, code, with_tokens};
use crate::support::client::message;
use crate::support::{Client, Gateway, Response, Upstream};

/// Sends these bytes on a connection of their own.
async fn send_bytes(gateway: &Gateway, bytes: &[u8]) -> Response {
    let mut client = Client::connect(gateway.admin_address()).await;
    client.send(bytes).await;
    client.response("GET").await
}

/// O5, Bad input: an `Authorization` that is not one bearer token is 401 with a challenge, whatever its bytes
#[tokio::test]
async fn malformed_credentials_are_refused() {
    let upstream = Upstream::ok("x");
    let gateway = with_tokens(&upstream).start().await;
    let right = bearer(OPERATOR);
    let long = bearer(&"a".repeat(64 << 10));
    let values: [(&[&[u8]], &str); 8] = [
        (&[b""], "token_malformed"),
        (&[b"Bearer"], "token_malformed"),
        (&[b"Bearer \xff\x80\xfe"], "token_malformed"),
        (&[b"Basic b3BlcmF0b3I6eA=="], "token_malformed"),
        (&[OPERATOR.as_bytes()], "token_malformed"),
        (&[b"Bearer a b"], "token_malformed"),
        (&[right.as_bytes(), right.as_bytes()], "token_malformed"),
        (&[long.as_bytes()], "token_wrong"),
    ];
    for (values, expected) in values {
        let mut head = b"GET /status HTTP/1.1\r\nhost: localhost\r\n".to_vec();
        for value in values {
            head.extend_from_slice(b"authorization: ");
            head.extend_from_slice(value);
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        let answer = send_bytes(&gateway, &head).await;
        let shown = String::from_utf8_lossy(values[0]).chars().take(40).collect::<String>();
        assert_eq!((answer.complete_status(), code(&answer).as_str()), (401, expected), "{shown}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"tidegate\""), "{shown}");
    }
    let answer = send_bytes(&gateway, &message("GET", "/status", &[("authorization", &right)], None)).await;
    assert_eq!(answer.complete_status(), 200);
}

/// O5, Bad input: a head or a body beyond its maximum is refused, and the listener goes on
#[tokio::test]
async fn long_heads_and_bodies_are_refused() {
    let upstream = Upstream::ok("x");
    let gateway = with_tokens(&upstream).chaos().start().await;
    let right = bearer(OPERATOR);
    let long = "a".repeat(200 << 10);
    let head = message("GET", "/status", &[("authorization", &right), ("x-long", &long)], None);
    let mut client = Client::connect(gateway.admin_address()).await;
    // The gateway may close before it has received everything.
    let _ = client.try_send(&head).await;
    assert_eq!(client.response("GET").await.status, 431);

    let body = vec![b'x'; (64 << 10) + 1];
    for target in ["/requests/crash", "/session", "/nothing"] {
        let mut client = Client::connect(gateway.admin_address()).await;
        let _ = client.try_send(message("POST", target, &[("authorization", &right)], Some(&body))).await;
        let answer = client.response("POST").await;
        assert_eq!((answer.complete_status(), code(&answer).as_str()), (413, "body_too_large"), "{target}");
        assert_eq!(answer.header("connection"), Some("close"), "{target}");
    }
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200, "nothing was armed");

    // A body without a declared length is not read by commands, and at most 4 KiB of it by a login.
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(64 << 10));
    let form = "content-type: application/x-www-form-urlencoded\r\n";
    for (target, authorization, status) in
        [("/requests/crash", format!("authorization: {right}\r\n"), 202), ("/session", form.to_owned(), 413)]
    {
        let mut client = Client::connect(gateway.admin_address()).await;
        client
            .send(format!(
                "POST {target} HTTP/1.1\r\nhost: localhost\r\n{authorization}transfer-encoding: chunked\r\n\r\n"
            ))
            .await;
        let _ = client.try_send(chunk.repeat(8)).await;
        assert_eq!(client.response("POST").await.complete_status(), status, "{target}");
        assert!(client.is_closed().await, "{target}: the rest of the body is not read as a request");
    }
    assert_eq!(send_bytes(&gateway, &message("GET", "/livez", &[], None)).await.complete_status(), 200);
}
