//! Injection checks on targets, by the bucket's mode, and legal keys that must not be refused.

use crate::support::{Client, Gateway, Upstream, get};

const PATTERNS: [&str; 8] = [
    "/b/'%3B%20DROP%20TABLE%20users--",
    "/b/k?q=%27;drop+table+x",
    "/b/k?name=%2527%253B%2520drop%2520table",
    "/b/'%20OR%20'1'='1",
    "/b/k?id='+or+'1'%3D'1",
    "/b/%3CScript%3Ealert(1)",
    "/b/k?q=%253cscript%253e",
    "/b/k?next=JavaScript%3Aalert(1)",
];
const DOTS_AND_CONTROLS: [&str; 5] =
    ["/b/a/../k", "/b/a/%2e%2E/k", "/b/a%2f..%2fk", "/b/a%00b", "/b/a%0d%0Ab"];

async fn gateway(upstream: &Upstream, mode: &str) -> Gateway {
    Gateway::builder().bucket("b", upstream).set("buckets.b.injection_patterns", mode).start().await
}

/// V4, V3, O4: by default patterns, traversal and control bytes are refused in the bucket's error format, and counted
#[tokio::test]
async fn block_refuses_and_names_the_reason() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    for (targets, reason) in [(&PATTERNS[..], "injection"), (&DOTS_AND_CONTROLS, "path")] {
        for target in targets {
            let answer = get(gateway.address(), target).await;
            assert_eq!((answer.complete_status(), answer.reason()), (400, reason), "{target}");
            assert!(answer.text().contains("<Code>InvalidURI</Code>"), "{}", answer.text());
        }
        let metric = format!("errors_total{{bucket=\"b\",reason=\"{reason}\"}}");
        assert_eq!(gateway.metric(&metric).await, targets.len() as f64);
    }
    assert_eq!(upstream.seen().len(), 0, "{:?}", upstream.seen());
}

/// V4, V5: `log` and `off` forward the same targets byte for byte, `log` with a warning
#[tokio::test]
async fn log_and_off_forward_byte_for_byte() {
    for mode in ["log", "off"] {
        let upstream = Upstream::ok("x");
        let gateway = gateway(&upstream, mode).await;
        for target in PATTERNS.iter().chain(&DOTS_AND_CONTROLS) {
            let answer = get(gateway.address(), target).await;
            assert_eq!(answer.complete_status(), 200, "{mode} {target}: {}", answer.text());
            assert_eq!(upstream.last().target, *target, "{mode}");
            let id = answer.header("x-request-id").unwrap().to_owned();
            gateway.wait_for_access_line(&id).await;
            // The warning is written before the access line.
            let lines = gateway.log_lines();
            let warned =
                lines.iter().any(|line| line["msg"] == "suspicious request forwarded" && line["id"] == *id);
            assert_eq!(warned, mode == "log", "{mode} {target}");
        }
    }
}

/// V3: a path that escapes its bucket is refused in every mode, because the target there was not authorised
#[tokio::test]
async fn no_mode_allows_a_path_to_escape_its_bucket() {
    for mode in ["block", "log", "off"] {
        let upstream = Upstream::ok("x");
        let gateway = Gateway::builder()
            .bucket("b", &upstream)
            .bucket("any", &upstream)
            .http_bucket("api", &upstream)
            .set("buckets.b.s3.bucket", "theirs")
            .set("buckets.any.pattern", "*")
            .set("buckets.b.injection_patterns", mode)
            .set("buckets.any.injection_patterns", mode)
            .set("buckets.api.injection_patterns", mode)
            .start()
            .await;
        for target in [
            "/b/../other/k",
            "/b/a/../../other/k",
            "/b/..",
            "/b/%2e%2e/other",
            "/b/%252e%252e%252fother",
            "/b/..%5cother",
            "/b//../../other",
            "/api/../../admin",
            "/../b/k",
            "/./b/k",
            "/invented/../b/k",
        ] {
            let answer = get(gateway.address(), target).await;
            assert_eq!((answer.complete_status(), answer.reason()), (400, "path"), "{mode} {target}");
        }
        assert_eq!(upstream.seen().len(), 0, "{mode}: {:?}", upstream.seen());
    }
}

/// V3: a `response-*` parameter cannot inject a response header, in any mode; other values may contain line breaks
#[tokio::test]
async fn a_response_parameter_cannot_forge_a_header() {
    for mode in ["block", "off"] {
        let upstream = Upstream::ok("x");
        let gateway = gateway(&upstream, mode).await;
        for target in [
            "/b/k?response-content-type=text%2Fplain%0d%0aset-cookie:%20a=b",
            "/b/k?versionId=1&response-content-disposition=x%0Ay",
            "/b/k?response%2Dexpires=%0D",
        ] {
            let answer = get(gateway.address(), target).await;
            assert_eq!(
                (answer.complete_status(), answer.reason()),
                (400, "response_parameter"),
                "{mode} {target}"
            );
        }
        assert_eq!(upstream.count(), 0);
        for target in [
            "/b/k?response-content-disposition=attachment%3B%20filename%3D%22a%22",
            "/b?delimiter=%0A&prefix=%0d",
        ] {
            assert_eq!(get(gateway.address(), target).await.complete_status(), 200, "{target}");
            assert_eq!(upstream.last().target, target);
        }
    }
}

/// V4, V5: legal keys are forwarded byte for byte by default, in every encoding that clients use
#[tokio::test]
async fn legal_keys_are_forwarded_byte_for_byte() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    for key in [
        "it's",
        "it%27s",
        "'",
        "''",
        "x'%20and%20'y",
        "'or'",
        "rock'n'roll;%20drop%20the%20beat",
        "drop%20table.sql",
        "select%20*%20from%20users%3B--",
        "with%20space",
        "%20leading%20and%20trailing%20",
        "%C3%BCn%C3%AFc%C3%B6d%C3%A9-%E6%97%A5%E6%9C%AC-%F0%9F%9A%80",
        "e%CC%81",
        "..name",
        "name..",
        "a..b",
        "...",
        ".hidden",
        "./dot",
        "..%20/x",
        "100%",
        "100%25",
        "%zz",
        "%2525",
        "a+b",
        "a%2Bb",
        "double//slash//",
        "~tilde%7E",
        "a;b",
        "a%3Bb",
        "a&b=c",
        "a=b&c",
        "java%20script:x",
        "javascript.js",
        "script",
        "less%3Cmore%3E",
        "%3Cscripts%3E",
        "%7C%20rm%20-rf%20$(x)%20%60y%60",
        "tab%09and%1Bescape",
        "a%2Fb%5Cc",
        "%FF%FE",
    ] {
        for target in
            [format!("/b/{key}"), format!("/b/{key}?versionId=x'y%27%0A"), format!("/b?prefix={key}")]
        {
            let answer = get(gateway.address(), &target).await;
            assert_eq!(answer.complete_status(), 200, "{target}: {}", answer.text());
            assert_eq!(upstream.last().target, target);
        }
    }
}

/// V1: an absolute target with another host than `Host` is refused, with the same host it is accepted; a fragment is
/// refused, because HTTP has none
#[tokio::test]
async fn a_target_names_no_other_host_and_no_fragment() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    for (target, expected) in [
        ("http://other.test/b/k", (400, "host")),
        ("gopher://gateway.test/b/k", (400, "target")),
        ("/b/k#fragment", (400, "")),
        ("http://gateway.test/b/k", (200, "")),
    ] {
        let mut client = Client::connect(gateway.address()).await;
        client.send(format!("GET {target} HTTP/1.1\r\nhost: gateway.test\r\n\r\n")).await;
        let answer = client.response("GET").await;
        assert_eq!((answer.complete_status(), answer.reason()), expected, "{target}");
    }
    assert_eq!((upstream.count(), upstream.last().target.as_str()), (1, "/b/k"));
}
