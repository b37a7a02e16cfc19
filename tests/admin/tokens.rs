//! Tokens: which proof may do what.

use super::{OPERATOR, READER, bearer, code, send_own, with_tokens};
use crate::support::{Gateway, Upstream, wait_for};

/// The cookie of a session for this token, as `name=value`.
async fn cookie(gateway: &Gateway, token: &str) -> String {
    let login = send_own(gateway, "POST", "/session", &[("authorization", &bearer(token))]).await;
    assert_eq!(login.complete_status(), 204, "{}", login.text());
    login.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
}

/// O5: what each proof may do: status and metrics with either token, changes with the operator's alone, probes without
#[tokio::test]
async fn each_proof_has_its_role() {
    let upstream = Upstream::ok("x");
    let gateway = with_tokens(&upstream).chaos().start().await;
    let origin = format!("http://{}", gateway.admin_address());
    let (read, operate) = (bearer(READER), bearer(OPERATOR));
    let (read_cookie, operate_cookie) = (cookie(&gateway, READER).await, cookie(&gateway, OPERATOR).await);
    let wrong = bearer("wrong-0123456789abcdef0123456789ab");
    let own = ("origin", origin.as_str());
    let none = (401, "token_required");
    let refused = (401, "token_wrong");
    let read_only = (403, "read_only");
    let done = (202, "");
    for (proof, get, post) in [
        (vec![], none, none),
        (vec![own], none, none),
        (vec![("authorization", wrong.as_str())], refused, refused),
        (vec![("authorization", wrong.as_str()), ("cookie", operate_cookie.as_str())], refused, refused),
        (vec![("cookie", "tidegate_admin=AAAA"), own], (401, "session_ended"), (401, "session_ended")),
        (vec![("authorization", read.as_str())], (200, ""), read_only),
        (vec![("cookie", read_cookie.as_str()), own], (200, ""), read_only),
        (vec![("authorization", operate.as_str())], (200, ""), done),
        (vec![("cookie", operate_cookie.as_str()), own], (200, ""), done),
    ] {
        for target in ["/status", "/metrics"] {
            for method in ["GET", "HEAD"] {
                let answer = send_own(&gateway, method, target, &proof).await;
                assert_eq!(answer.complete_status(), get.0, "{method} {target} {proof:?}");
                let challenge = answer.header("www-authenticate");
                assert_eq!(challenge, (get.0 == 401).then_some("Bearer realm=\"tidegate\""), "{proof:?}");
                assert_eq!(answer.header("cache-control"), Some("no-store"));
                if get.0 != 200 && method == "GET" {
                    assert_eq!(code(&answer), get.1, "{proof:?}");
                }
            }
        }
        let posted = send_own(&gateway, "POST", "/requests/crash", &proof).await;
        assert_eq!(posted.complete_status(), post.0, "{proof:?}: {}", posted.text());
        if post.0 == 202 {
            assert_eq!(gateway.get("/b/k").await.complete_status(), 500, "{proof:?}: a request crashes");
        } else {
            assert_eq!(code(&posted), post.1, "{proof:?}");
        }
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200, "{proof:?}: nothing else was armed");
        for probe in ["/livez", "/readyz", "/-/livez", "/-/readyz"] {
            for method in ["GET", "HEAD"] {
                assert_eq!(
                    send_own(&gateway, method, probe, &proof).await.complete_status(),
                    200,
                    "{probe} {proof:?}"
                );
            }
        }
    }
    assert_eq!(send_own(&gateway, "OPTIONS", "/", &[]).await.complete_status(), 200, "HAProxy's plain check");
    for (method, target) in [("POST", "/livez"), ("GET", "/nothing"), ("DELETE", "/status"), ("POST", "/")] {
        let answer = send_own(&gateway, method, target, &[]).await;
        assert_eq!(
            (answer.complete_status(), code(&answer).as_str()),
            (401, "token_required"),
            "{method} {target}"
        );
    }
}

/// O5: with one of the two tokens configured, the other role has no token
#[tokio::test]
async fn one_token_is_enough() {
    let upstream = Upstream::ok("x");
    for (key, token, other, posted) in
        [("admin.token", OPERATOR, READER, 403), ("admin.read_token", READER, OPERATOR, 403)]
    {
        let gateway = super::builder(&upstream).set(key, token).start().await;
        let (own, other) = (bearer(token), bearer(other));
        assert_eq!(
            send_own(&gateway, "GET", "/status", &[("authorization", &own)]).await.complete_status(),
            200
        );
        assert_eq!(
            send_own(&gateway, "GET", "/status", &[("authorization", &other)]).await.complete_status(),
            401
        );
        assert_eq!(send_own(&gateway, "GET", "/status", &[]).await.complete_status(), 401);
        let post = send_own(&gateway, "POST", "/requests/crash", &[("authorization", &own)]).await;
        assert_eq!(post.complete_status(), posted);
        let expected = if key == "admin.token" { "chaos_off" } else { "read_only" };
        assert_eq!(code(&post), expected);
    }
}

/// O5: after ten wrong tokens an address gets 429 for wrong ones, once in the log, and a correct token still works
#[tokio::test]
async fn wrong_tokens_are_limited_and_lock_nobody_out() {
    let upstream = Upstream::ok("x");
    let gateway = with_tokens(&upstream).start().await;
    let wrong = bearer("wrong-0123456789abcdef0123456789ab");
    for number in 1..=15 {
        let answer = send_own(&gateway, "GET", "/status", &[("authorization", &wrong)]).await;
        let expected = if number <= 10 { (401, "token_wrong") } else { (429, "too_many_wrong_tokens") };
        assert_eq!((answer.complete_status(), code(&answer).as_str()), expected, "{number}");
        if number > 10 {
            assert!((1..=60).contains(&answer.retry_after().unwrap()));
            assert_eq!(answer.header("connection"), Some("close"));
        }
        for token in [READER, OPERATOR] {
            let right = send_own(&gateway, "GET", "/status", &[("authorization", &bearer(token))]).await;
            assert_eq!(right.complete_status(), 200, "{number}");
        }
        let missing = send_own(&gateway, "GET", "/status", &[]).await;
        assert_eq!(missing.complete_status(), 401, "a request without a token is no attempt");
    }
    let login = send_own(&gateway, "POST", "/session", &[("authorization", &wrong)]).await;
    assert_eq!((login.complete_status(), code(&login).as_str()), (429, "too_many_wrong_tokens"));
    let begun = "many wrong tokens at the admin listener from one address, further ones get 429";
    let line = gateway.wait_for_log_line(begun, |_| true).await;
    assert_eq!(line["client"], "127.0.0.1", "{line}");
    assert_eq!(gateway.log_lines().iter().filter(|line| line["msg"] == begun).count(), 1);
}

/// C4, C5: neither token is in the log, the status, the metrics, stderr or the environment of the process
#[tokio::test]
async fn tokens_are_not_shown() {
    let upstream = Upstream::ok("x");
    let gateway = with_tokens(&upstream).set("log.level", "debug").start().await;
    let operate = bearer(OPERATOR);
    let mut shown = String::new();
    for (target, headers) in [
        ("/status", vec![("authorization", operate.as_str())]),
        ("/metrics", vec![("authorization", operate.as_str())]),
        ("/nothing", vec![("authorization", operate.as_str())]),
        ("/status", vec![("authorization", operate.as_str()), ("authorization", operate.as_str())]),
        ("/status", vec![]),
    ] {
        let answer = send_own(&gateway, "GET", target, &headers).await;
        shown.push_str(&answer.text());
        shown.push_str(&format!("{:?}", answer.headers));
    }
    let environment = std::fs::read(format!("/proc/{}/environ", gateway.pid())).unwrap();
    shown.push_str(&String::from_utf8_lossy(&environment));
    let arguments = std::fs::read(format!("/proc/{}/cmdline", gateway.pid())).unwrap();
    shown.push_str(&String::from_utf8_lossy(&arguments));
    wait_for("the log has lines", || async { (!gateway.raw_log().is_empty()).then_some(()) }).await;
    shown.push_str(&gateway.raw_log().join("\n"));
    shown.push_str(&gateway.stderr());
    assert!(shown.contains("TIDEGATE_ADMIN__HOSTS"), "the environment was read");
    for token in [OPERATOR, READER] {
        assert!(!shown.contains(token), "{shown}");
    }
}
