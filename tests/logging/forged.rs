//! Redaction and escaping in the log.

use crate::jwt::{
    self,
    issuer::{Issuer, SECRET},
};
use crate::support::{Gateway, Upstream, request, wait_for};

/// Secret values, in a query of either kind of bucket.
const SECRETS: [&str; 18] = [
    "key=",
    "api_key=",
    "apikey=",
    "API-KEY=",
    "sig=",
    "signature=",
    "password=",
    "Secret=",
    "client_secret=",
    "token=",
    "access_token=",
    "code=",
    "%74oken=",
    "api%5Fkey=",
    "user[password]=",
    "X-Amz-Signature=",
    "vendor_pin=",
    "VendorPin=",
];

async fn logged(gateway: &Gateway, target: &str, id: &str) -> (String, String) {
    request(gateway.address(), "GET", target, &[("x-request-id", id)], None).await;
    let line = gateway.wait_for_access_line(id).await;
    let text = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
    (text("path"), text("query"))
}

/// O2, C4: secrets in queries and paths are redacted in every kind of bucket, and for names without a bucket
#[tokio::test]
async fn secrets_in_targets_are_redacted_everywhere() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .http_bucket("api", &upstream)
        .set("log.redact", "vendor_pin,other")
        .start()
        .await;
    for bucket in ["b", "api", "nowhere"] {
        for (at, name) in SECRETS.iter().enumerate() {
            let (_, query) =
                logged(&gateway, &format!("/{bucket}/k?a=1&{name}HIDDEN&b=2"), &format!("{bucket}-and-{at}"))
                    .await;
            assert_eq!(query, format!("a=1&{name}redacted&b=2"), "{bucket}");
            let (_, query) =
                logged(&gateway, &format!("/{bucket}/k?a=1;{name}HIDDEN"), &format!("{bucket}-semi-{at}"))
                    .await;
            assert_eq!(query, format!("a=1;{name}redacted"), "{bucket}");
        }
        let (path, _) =
            logged(&gateway, &format!("/{bucket}/a;token=HIDDEN;x=1/b"), &format!("{bucket}-path")).await;
        assert_eq!(path, format!("/{bucket}/a;token=redacted;x=1/b"));
        let nested = format!("/{bucket}/k?next=https%3A%2F%2Fx%2F%3Ftoken%3DHIDDEN");
        assert_eq!(logged(&gateway, &nested, &format!("{bucket}-nested")).await.1, "next=redacted");
        let plain = "list-type=2&prefix=key&continuation-token=abc";
        assert_eq!(
            logged(&gateway, &format!("/{bucket}/?{plain}"), &format!("{bucket}-plain")).await.1,
            plain
        );
    }
    let everything =
        format!("{:?}{}{}", gateway.log_lines(), gateway.status().await, gateway.metrics().await);
    assert!(!everything.contains("HIDDEN"), "{everything}");
}

/// O2: the warning about a suspicious request contains no target
#[tokio::test]
async fn a_suspicious_request_is_logged_without_its_secrets() {
    let upstream = Upstream::ok("x");
    let gateway =
        Gateway::builder().bucket("b", &upstream).set("buckets.b.injection_patterns", "log").start().await;
    gateway.get("/b/k?q=javascript:x&sig=HIDDEN").await;
    gateway.wait_for_log_line("suspicious request forwarded", |_| true).await;
    assert!(!format!("{:?}", gateway.log_lines()).contains("HIDDEN"));
}

/// O2, A3: in the terminal format no client input ends a line, emits a control sequence, or forges a field
#[tokio::test]
async fn client_input_forges_no_terminal_line() {
    let upstream = Upstream::ok("x");
    let gateway = jwt::buckets(&upstream).set("jwt.secret", SECRET).start_with_terminal_log().await;
    let subject = "a\nNov 29 12:00:00.000 INFO request, id: forged\u{1b}[2K\u{1b}]0;x\u{7}\u{9b}2J\r, status: 500, b: \"";
    let mut claims = jwt::claims();
    claims["sub"] = subject.into();
    let token = Issuer::secret().token(&claims);
    let path = "/b/k,%0a\\u001b";
    assert_eq!(jwt::send_with_token(&gateway, "GET", "/b/k", &token).await.complete_status(), 200);
    assert_eq!(jwt::send_with_token(&gateway, "GET", path, &token).await.complete_status(), 400);
    let file = gateway.directory().join("log");
    let text = wait_for("both requests are logged", || async {
        let text = std::fs::read_to_string(&file).unwrap();
        (text.matches("INFO request, ").count() >= 2).then_some(text)
    })
    .await;
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    let requests: Vec<&str> = text.lines().filter(|line| line.contains("INFO request")).collect();
    assert_eq!(requests.len(), 2, "{text}");
    assert!(
        requests
            .iter()
            .all(|line| ["path: /b/k,", "path: \"/b/k,%0a"].iter().any(|path| line.contains(path))),
        "{text}"
    );
    let escaped = "subject: \"a\\u000aNov 29 12:00:00.000 INFO request, id: forged\\u001b[2K";
    assert!(requests[0].contains(escaped) && requests[0].contains("status: 200"), "{text}");
}

/// O2, A3: the same in JSON, where each line is one object without control characters
#[tokio::test]
async fn client_input_forges_no_json_line() {
    let upstream = Upstream::ok("x");
    let gateway = jwt::buckets(&upstream).set("jwt.secret", SECRET).start().await;
    let mut claims = jwt::claims();
    let subject = "a\n{\"msg\":\"forged\"}\u{1b}[2K\u{9b}2J\u{7f}\u{202e}\u{2028}é";
    claims["sub"] = subject.into();
    let token = Issuer::secret().token(&claims);
    let answer = jwt::send_with_token(&gateway, "GET", "/b/k", &token).await;
    assert_eq!(answer.complete_status(), 200);
    let line = gateway.wait_for_access_line(answer.header("x-request-id").unwrap()).await;
    assert_eq!(line["subject"], subject, "it reads back as it was");
    let acts = |c: char| c.is_control() || matches!(c, '\u{202e}' | '\u{2028}');
    let raw = gateway.raw_log();
    assert!(raw.iter().all(|line| !line.contains(acts)), "{raw:?}");
    assert!(raw.iter().any(|line| line.contains("\\u009b2J\\u007f\\u202e\\u2028é")), "{raw:?}");
}
