//! The `SignatureDoesNotMatch` document: it shows which part of the request was changed in transit, and no secret.

use super::signer::HOST;
use super::{GUEST, ID, SECRET, Signer, s3_error_code, send, signed_bucket, signer};
use crate::support::client::sha256;
use crate::support::{Gateway, Response, Upstream, get, request};

const PROXY_SECRET: &str = "s3cr3t-of-a-proxy";

/// The text of an element, with its XML escapes resolved.
fn element(answer: &Response, name: &str) -> Option<String> {
    let text = answer.text();
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (inner, _) = rest.split_once(&format!("</{name}>"))?;
    let plain = inner.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&");
    Some(plain)
}

fn hex_pairs(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

async fn gateway() -> (Gateway, Upstream) {
    let upstream = Upstream::ok("x");
    (signed_bucket(&upstream).start().await, upstream)
}

/// Sends a request with `accept-encoding` changed after signing; `more` headers are signed too.
async fn send_with_changed_header(gateway: &Gateway, target: &str, more: &[(&str, &str)]) -> Response {
    let all: Vec<(&str, &str)> = more.iter().copied().chain([("accept-encoding", "identity")]).collect();
    let mut headers = signer().headers("GET", target, "UNSIGNED-PAYLOAD", &all);
    let (_, value) = headers.iter_mut().find(|(name, _)| name == "accept-encoding").unwrap();
    *value = "gzip, br".to_owned();
    send(gateway, "GET", target, &headers, None).await
}

/// A1: the error shows the gateway's canonical request, in which a changed header is visible
#[tokio::test]
async fn the_error_shows_a_changed_header() {
    let (gateway, upstream) = gateway().await;
    let target = "/b/a%3Cb%3E'?prefix=%26x&list-type=2";
    let answer =
        send_with_changed_header(&gateway, target, &[("range", "bytes=0-9"), ("x-amz-meta-m", "<a&b>")])
            .await;
    assert_eq!((answer.complete_status(), s3_error_code(&answer)), (403, "SignatureDoesNotMatch".to_owned()));
    let request = element(&answer, "CanonicalRequest").unwrap();
    let lines: Vec<&str> = request.lines().collect();
    assert_eq!(lines[..3], ["GET", "/b/a%3Cb%3E%27", "list-type=2&prefix=%26x"]);
    for line in ["accept-encoding:gzip, br", "range:bytes=0-9", "x-amz-meta-m:<a&b>", "host:gateway.test"] {
        assert!(lines.contains(&line), "{line} in {request}");
    }
    assert!(request.ends_with("\nUNSIGNED-PAYLOAD"), "{request}");
    assert_eq!(element(&answer, "CanonicalRequestBytes").unwrap(), hex_pairs(&request));
    let signed = element(&answer, "StringToSign").unwrap();
    let parts: Vec<&str> = signed.split('\n').collect();
    assert_eq!(parts[0], "AWS4-HMAC-SHA256");
    assert!(parts[2].ends_with("/us-east-1/s3/aws4_request"), "{signed}");
    assert_eq!(parts[3], sha256(request.as_bytes()), "nothing in this request is redacted");
    assert_eq!(element(&answer, "StringToSignBytes").unwrap(), hex_pairs(&signed));
    assert_eq!(element(&answer, "AWSAccessKeyId").as_deref(), Some(ID));
    assert_eq!(element(&answer, "SignatureProvided").unwrap().len(), 64);
    assert_eq!(upstream.count(), 0);
}

/// A1: a signed header that was removed in transit is shown as empty
#[tokio::test]
async fn a_removed_header_is_shown_as_empty() {
    let (gateway, _upstream) = gateway().await;
    let mut headers = signer().headers("GET", "/b/k", "UNSIGNED-PAYLOAD", &[("accept-encoding", "identity")]);
    headers.retain(|(name, _)| name != "accept-encoding");
    let answer = send(&gateway, "GET", "/b/k", &headers, None).await;
    assert_eq!(s3_error_code(&answer), "SignatureDoesNotMatch");
    assert!(element(&answer, "CanonicalRequest").unwrap().contains("\naccept-encoding:\n"));
}

/// C4, A1: proxy headers, session tokens and encryption keys are shown as length and hash; none is logged
#[tokio::test]
async fn secrets_are_shown_as_length_and_hash() {
    let (gateway, _upstream) = gateway().await;
    for name in [
        "x-proxy-secret",
        "cookie",
        "x-amz-server-side-encryption-customer-key",
        "x-amz-s3session-token",
        "via",
    ] {
        let answer = send_with_changed_header(&gateway, "/b/k", &[(name, PROXY_SECRET)]).await;
        assert_eq!(s3_error_code(&answer), "SignatureDoesNotMatch");
        let request = element(&answer, "CanonicalRequest").unwrap();
        let shown =
            format!("\n{name}:({} bytes, SHA-256 {})\n", PROXY_SECRET.len(), sha256(PROXY_SECRET.as_bytes()));
        assert!(request.contains(&shown), "{request}");
        assert_eq!(element(&answer, "CanonicalRequestBytes").unwrap(), hex_pairs(&request));
        let text = answer.text();
        assert!(!text.contains(PROXY_SECRET) && !text.contains(&hex_pairs(PROXY_SECRET)), "{text}");
        assert!(!text.contains(SECRET), "{text}");
        let line = gateway.wait_for_access_line(answer.header("x-request-id").unwrap()).await;
        assert_eq!(line["reason"], "signature_mismatch");
    }
    let log = gateway.raw_log().join("\n");
    let shown = ["CanonicalRequest", "AWS4-HMAC-SHA256", PROXY_SECRET, &sha256(PROXY_SECRET.as_bytes())];
    assert!(shown.iter().all(|text| !log.contains(text)), "{log}");
}

/// A1, C4: for a presigned URL the query is shown without its session token
#[tokio::test]
async fn a_presigned_url_is_shown_without_its_session_token() {
    let upstream = Upstream::ok("x");
    let gateway = signed_bucket(&upstream)
        .set("keys.guest.access_key_id", "GUEST")
        .set("keys.guest.secret", GUEST)
        .set("keys.guest.session_token", PROXY_SECRET)
        .set("keys.guest.policy", "all")
        .start()
        .await;
    let target = format!("/b/k?X-Amz-Security-Token={PROXY_SECRET}&response-content-type=a%20b");
    let url = Signer::new("GUEST", GUEST).presigned("GET", &target, "60");
    assert_eq!(get(gateway.address(), &url).await.complete_status(), 200);
    let answer = get(gateway.address(), &url.replace("a%20b", "a%20c")).await;
    assert_eq!((answer.complete_status(), s3_error_code(&answer)), (403, "SignatureDoesNotMatch".to_owned()));
    let request = element(&answer, "CanonicalRequest").unwrap();
    let query = request.lines().nth(2).unwrap();
    assert!(query.contains("X-Amz-Credential=GUEST%2F") && query.contains("response-content-type=a%20c"));
    let hidden = format!("X-Amz-Security-Token=(17 bytes, SHA-256 {})", sha256(PROXY_SECRET.as_bytes()));
    assert!(query.contains(&hidden) && !query.contains("X-Amz-Signature"), "{query}");
    assert!(!answer.text().contains(PROXY_SECRET));
    assert_eq!(element(&answer, "AWSAccessKeyId").as_deref(), Some("GUEST"));
}

/// C4, A2: the session token of a directory bucket is not shown, not logged and not forwarded, as header and as parameter
#[tokio::test]
async fn a_directory_session_token_stays_here() {
    let (gateway, upstream) = gateway().await;
    let target = format!("/b/k?X-Amz-S3session-Token={PROXY_SECRET}&partNumber=1");
    let url = signer().presigned("GET", &target, "60");
    let header = [("x-amz-s3session-token", PROXY_SECRET)];
    let headers = signer().headers("GET", "/b/k", "UNSIGNED-PAYLOAD", &header);
    assert_eq!(get(gateway.address(), &url).await.complete_status(), 200);
    assert_eq!(send(&gateway, "GET", "/b/k", &headers, None).await.complete_status(), 200);
    let seen = upstream.seen();
    assert_eq!(seen.iter().map(|seen| &*seen.target).collect::<Vec<_>>(), ["/b/k?partNumber=1", "/b/k"]);
    assert!(!format!("{seen:?}").contains(PROXY_SECRET), "{seen:?}");
    let answer = get(gateway.address(), &url.replace("partNumber=1", "partNumber=2")).await;
    assert_eq!(s3_error_code(&answer), "SignatureDoesNotMatch");
    assert!(!answer.text().contains(PROXY_SECRET), "{}", answer.text());
    gateway.wait_for_access_line(answer.header("x-request-id").unwrap()).await;
    assert!(!gateway.raw_log().join("\n").contains(PROXY_SECRET));
}

/// A1, C4: for a form the policy is shown, because it is the signed text, unless it contains a session token
#[tokio::test]
async fn a_forms_policy_is_shown_unless_it_holds_a_token() {
    let upstream = Upstream::ok("x");
    let gateway = signed_bucket(&upstream)
        .set("keys.guest.access_key_id", "GUEST")
        .set("keys.guest.secret", GUEST)
        .set("keys.guest.session_token", PROXY_SECRET)
        .set("keys.guest.policy", "all")
        .start()
        .await;
    for (id, token) in [(ID, None), ("GUEST", Some(PROXY_SECRET))] {
        let forger = Signer::new(id, "another");
        let mut fields = forger.form_fields();
        fields.extend(token.map(|token| ("x-amz-security-token".to_owned(), token.to_owned())));
        fields.push(("key".to_owned(), "k".to_owned()));
        let policy =
            format!("{{\"expiration\": \"2099-01-01T00:00:00Z\", \"conditions\": [], \"t\": \"{token:?}\"}}");
        fields.extend(forger.sign_policy(&policy));
        let part = |(name, value): &(String, String)| {
            format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let form: String = fields.iter().map(part).collect();
        let form = form + "--x\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\ndata\r\n--x--\r\n";
        let kind = [("content-type", "multipart/form-data; boundary=x")];
        let answer = request(gateway.address(), "POST", "/b", &kind, Some(form.as_bytes())).await;
        assert_eq!(
            (answer.complete_status(), s3_error_code(&answer)),
            (403, "SignatureDoesNotMatch".to_owned())
        );
        let (_, policy) = fields.iter().find(|(name, _)| name == "policy").unwrap();
        let shown = match token {
            None => policy.clone(),
            Some(_) => format!("({} bytes, SHA-256 {})", policy.len(), sha256(policy.as_bytes())),
        };
        assert_eq!(element(&answer, "StringToSign"), Some(shown.clone()));
        assert_eq!(element(&answer, "StringToSignBytes"), Some(hex_pairs(&shown)));
        assert_eq!(element(&answer, "AWSAccessKeyId").as_deref(), Some(id));
        assert_eq!(element(&answer, "CanonicalRequest"), None);
    }
    assert_eq!(upstream.count(), 0);
}

/// E4, A1: the error document is bounded for requests of any length, and stays valid with bytes that XML cannot
/// represent
#[tokio::test]
async fn the_error_document_is_bounded() {
    let (gateway, _upstream) = gateway().await;
    let long = "m".repeat(7000);
    let answer = send_with_changed_header(
        &gateway,
        &format!("/b/{}", "k".repeat(7000)),
        &[("x-amz-meta-m", &long[..6500])],
    )
    .await;
    assert_eq!(s3_error_code(&answer), "SignatureDoesNotMatch");
    assert!(element(&answer, "CanonicalRequest").unwrap().contains(" bytes omitted)"));
    assert!(answer.body.len() < 32 << 10, "{}", answer.body.len());
    let mut headers = signer().headers("GET", "/b/k", "UNSIGNED-PAYLOAD", &[("x-amz-meta-m", "m")]);
    headers.retain(|(name, _)| name != "x-amz-meta-m");
    let mut bytes = format!("GET /b/k HTTP/1.1\r\nhost: {HOST}\r\n").into_bytes();
    for (name, value) in &headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"x-amz-meta-m: a\xff]]>\xc3\xa9\r\n\r\n");
    let mut client = crate::support::Client::connect(gateway.address()).await;
    client.send(bytes).await;
    let answer = client.response("GET").await;
    assert_eq!(s3_error_code(&answer), "SignatureDoesNotMatch");
    let text = String::from_utf8(answer.body.clone()).expect("it is UTF-8");
    assert!(text.contains("x-amz-meta-m:a\u{fffd}]]&gt;é\n"), "{text}");
    assert!(text.contains("61 ff 5d 5d 3e c3 a9"), "the bytes are the received ones");
}
