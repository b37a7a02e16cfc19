//! The cookie for which a browser trades a token.

use super::{OPERATOR, READER, bearer, code, send_own, with_tokens};
use crate::support::client::message;
use crate::support::{Client, Gateway, Response, Upstream, request};

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// Posts a body to `/session`, with a `Host` of the listener.
async fn post_form(gateway: &Gateway, headers: &[(&str, &str)], body: &str) -> Response {
    let mut client = Client::connect(gateway.admin_address()).await;
    client.send(message("POST", "/session", headers, Some(body.as_bytes()))).await;
    client.response("POST").await
}

/// `name=value` of the cookie that an answer sets.
fn cookie_pair(answer: &Response) -> String {
    answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
}

/// O5, C4: a token in the header or in a form gives a cookie that no script reads and no other site sends
#[tokio::test]
async fn a_token_is_traded_for_a_cookie() {
    let upstream = Upstream::ok("x");
    let gateway = with_tokens(&upstream).start().await;
    let origin = format!("http://{}", gateway.admin_address());
    let by_header = send_own(&gateway, "POST", "/session", &[("authorization", &bearer(OPERATOR))]).await;
    assert_eq!((by_header.complete_status(), by_header.header("location")), (204, None));
    let by_form = post_form(&gateway, &[FORM], &format!("token={OPERATOR}")).await;
    assert_eq!((by_form.complete_status(), by_form.header("location")), (303, Some("/")));
    let encoded = post_form(
        &gateway,
        &[("content-type", "Application/X-WWW-Form-Urlencoded; charset=utf-8")],
        &format!("token={}", READER.replace('-', "%2D")),
    )
    .await;
    assert_eq!(encoded.complete_status(), 303);
    for answer in [&by_header, &by_form, &encoded] {
        let cookie = answer.header("set-cookie").unwrap();
        assert!(cookie.starts_with("tidegate_admin="), "{cookie}");
        assert!(cookie.ends_with("; HttpOnly; SameSite=Strict; Path=/; Max-Age=43200"), "{cookie}");
        assert!(!cookie.contains(OPERATOR) && !cookie.contains(READER), "{cookie}");
        let pair = cookie_pair(answer);
        assert_eq!(send_own(&gateway, "GET", "/status", &[("cookie", &pair)]).await.complete_status(), 200);
        let beside = format!("theme=dark; {pair}; tidegate_admin=old");
        assert_eq!(send_own(&gateway, "GET", "/status", &[("cookie", &beside)]).await.complete_status(), 200);
    }
    assert_ne!(cookie_pair(&by_header), cookie_pair(&by_form), "each session has its own value");
    let post = |pair: String| {
        let (gateway, origin) = (&gateway, &origin);
        async move { send_own(gateway, "POST", "/requests/crash", &[("cookie", &pair), ("origin", origin)]).await }
    };
    assert_eq!(code(&post(cookie_pair(&by_form)).await), "chaos_off", "an operator reaches the command");
    assert_eq!(code(&post(cookie_pair(&encoded)).await), "read_only");
}

/// O5, Bad input: with a cookie, a change needs the listener's own `Origin`; a missing one and `null` are refused
#[tokio::test]
async fn a_cookie_does_not_authorize_other_pages() {
    let upstream = Upstream::ok("x");
    let gateway = with_tokens(&upstream).chaos().start().await;
    let login = send_own(&gateway, "POST", "/session", &[("authorization", &bearer(OPERATOR))]).await;
    let pair = cookie_pair(&login);
    let own = format!("http://{}", gateway.admin_address());
    for origins in [
        vec![],
        vec![("origin", "null")],
        vec![("origin", "")],
        vec![("origin", "http://evil.test")],
        vec![("origin", "http://127.0.0.1:1")],
        vec![("origin", own.as_str()), ("origin", "null")],
        vec![("origin", own.as_str()), ("sec-fetch-site", "cross-site")],
    ] {
        let headers: Vec<_> =
            [("cookie", pair.as_str())].into_iter().chain(origins.iter().copied()).collect();
        for (method, target) in
            [("POST", "/requests/crash"), ("POST", "/actors/limiter/crash"), ("DELETE", "/session")]
        {
            let answer = send_own(&gateway, method, target, &headers).await;
            assert_eq!(
                (answer.complete_status(), code(&answer).as_str()),
                (403, "cross_site"),
                "{target} {origins:?}"
            );
        }
    }
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200, "nothing was armed");
    let answer = send_own(&gateway, "GET", "/status", &[("cookie", &pair)]).await;
    assert_eq!(answer.complete_status(), 200, "the session has not ended");
    for origin in ["null", "http://evil.test"] {
        let login = post_form(&gateway, &[FORM, ("origin", origin)], &format!("token={OPERATOR}")).await;
        assert_eq!((login.complete_status(), code(&login).as_str()), (403, "cross_site"), "{origin}");
        assert_eq!(login.header("set-cookie"), None);
    }
}

/// O5: a logout ends its session and no other, and removes the cookie; a reader may log out
#[tokio::test]
async fn a_logout_ends_the_session() {
    let upstream = Upstream::ok("x");
    let gateway = with_tokens(&upstream).start().await;
    let own = format!("http://{}", gateway.admin_address());
    for token in [OPERATOR, READER] {
        let mut pairs = Vec::new();
        for _ in 0..2 {
            let login = send_own(&gateway, "POST", "/session", &[("authorization", &bearer(token))]).await;
            pairs.push(cookie_pair(&login));
        }
        let get = |pair: String| {
            let gateway = &gateway;
            async move { send_own(gateway, "GET", "/status", &[("cookie", &pair)]).await }
        };
        let logout =
            send_own(&gateway, "DELETE", "/session", &[("cookie", &pairs[0]), ("origin", &own)]).await;
        assert_eq!(logout.complete_status(), 204, "{}", logout.text());
        let removal = logout.header("set-cookie").unwrap();
        assert!(removal.starts_with("tidegate_admin=;") && removal.contains("Max-Age=0"), "{removal}");
        let ended = get(pairs[0].clone()).await;
        assert_eq!((ended.complete_status(), code(&ended).as_str()), (401, "session_ended"));
        assert_eq!(get(pairs[1].clone()).await.complete_status(), 200, "the other session");
    }
}

/// O5: the logouts of readers, however many, end sessions of readers alone
#[tokio::test]
async fn logouts_of_readers_end_no_session_of_an_operator() {
    let upstream = Upstream::ok("x");
    let gateway = with_tokens(&upstream).start().await;
    let own = format!("http://{}", gateway.admin_address());
    let login = |token: &'static str| {
        let gateway = &gateway;
        async move {
            let answer = send_own(gateway, "POST", "/session", &[("authorization", &bearer(token))]).await;
            cookie_pair(&answer)
        }
    };
    let status = |pair: String| {
        let gateway = &gateway;
        async move { send_own(gateway, "GET", "/status", &[("cookie", &pair)]).await.complete_status() }
    };
    let (operator, reader) = (login(OPERATOR).await, login(READER).await);
    for _ in 0..1_025 {
        let pair = login(READER).await;
        let logout = send_own(&gateway, "DELETE", "/session", &[("cookie", &pair), ("origin", &own)]).await;
        assert_eq!(logout.complete_status(), 204, "{}", logout.text());
    }
    assert_eq!(status(operator).await, 200, "the operator is still logged in");
    assert_eq!(status(reader).await, 401, "all sessions of readers have ended");
    assert_eq!(status(login(READER).await).await, 200, "a later one is valid");
}

/// O5: a session is valid in its own process alone
#[tokio::test]
async fn a_session_is_unknown_to_another_process() {
    let upstream = Upstream::ok("x");
    let (first, second) = (with_tokens(&upstream).start().await, with_tokens(&upstream).start().await);
    let login = send_own(&first, "POST", "/session", &[("authorization", &bearer(OPERATOR))]).await;
    let pair = cookie_pair(&login);
    let answer = send_own(&second, "GET", "/status", &[("cookie", &pair)]).await;
    assert_eq!((answer.complete_status(), code(&answer).as_str()), (401, "session_ended"));
}

/// O5, Bad input: a login without a valid token gets no cookie and a clear error
#[tokio::test]
async fn an_invalid_login_gets_no_cookie() {
    let upstream = Upstream::ok("x");
    let gateway = with_tokens(&upstream).start().await;
    let long = format!("token={}", "a".repeat(4 << 10));
    let two = format!("token={OPERATOR}&token={OPERATOR}");
    let more = format!("token={OPERATOR}&role=operator");
    for (headers, body, status, expected) in [
        (vec![FORM], "token=wrong-0123456789abcdef0123456789ab", 401, "token_wrong"),
        (vec![FORM], "token=", 401, "token_wrong"),
        (vec![FORM], "", 400, "bad_form"),
        (vec![FORM], "password=x", 400, "bad_form"),
        (vec![FORM], two.as_str(), 400, "bad_form"),
        (vec![FORM], more.as_str(), 400, "bad_form"),
        (vec![FORM], long.as_str(), 413, "body_too_large"),
        (vec![("content-type", "application/json")], "{\"token\":\"x\"}", 400, "bad_form"),
        (vec![], "token=x", 401, "token_required"),
        (vec![FORM, ("authorization", "Basic abc")], "", 401, "token_malformed"),
    ] {
        let answer = post_form(&gateway, &headers, body).await;
        assert_eq!(
            (answer.complete_status(), code(&answer).as_str()),
            (status, expected),
            "{headers:?} {body:.40}"
        );
        assert_eq!(answer.header("set-cookie"), None, "{body:.40}");
        assert!(!answer.text().contains(OPERATOR), "{}", answer.text());
    }
    let open = super::builder(&upstream).start().await;
    let answer = post_form(&open, &[FORM], &format!("token={OPERATOR}")).await;
    assert_eq!((answer.complete_status(), code(&answer).as_str()), (400, "no_sessions"));
}

/// C4, A2: the data listener forwards no session cookie of the admin listener: a browser sends it to every port of a host
#[tokio::test]
async fn the_cookie_is_not_forwarded_upstream() {
    let upstream = Upstream::ok("x");
    let gateway = with_tokens(&upstream).http_bucket("api", &upstream).start().await;
    let login = send_own(&gateway, "POST", "/session", &[("authorization", &bearer(OPERATOR))]).await;
    let pair = cookie_pair(&login);
    for bucket in ["b", "api"] {
        let target = format!("/{bucket}/k");
        for (cookie, expected) in [(format!("a=1; {pair}; b=2"), Some("a=1; b=2")), (pair.clone(), None)] {
            let answer = request(gateway.address(), "GET", &target, &[("cookie", &cookie)], None).await;
            assert_eq!(answer.complete_status(), 200);
            assert_eq!(upstream.last().header("cookie"), expected, "{bucket}");
        }
    }
}
