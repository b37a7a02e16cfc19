//! Bucket names with a Ceph tenant, and in every encoding of a path.

use crate::support::{Client, Gateway, Upstream, get, request};

/// V5, V12: a section's name, a pattern and the upstream's name may have a tenant; an encoded name equals the decoded
/// one and is forwarded unchanged
#[tokio::test]
async fn a_name_may_have_a_tenant_and_be_encoded() {
    let (upstream, tenant) = (Upstream::ok("plain"), Upstream::ok("tenant"));
    let endpoint = |upstream: &Upstream| format!("http://{}", upstream.address());
    let (plain, tenants) = (endpoint(&upstream), endpoint(&tenant));
    let section = |name: &str, url: &str, more: &str| {
        format!("[buckets.\"{name}\"]\nauth = [\"anonymous\"]\n{more}\ns3.endpoints = [\"{url}\"]\n")
    };
    let gateway = Gateway::builder()
        .config(
            &[
                section("acme:photos", &tenants, ""),
                section("others", &tenants, "pattern = \"ot*:b-*\""),
                section("default", &tenants, "pattern = \":*\""),
                section("cs-a", &plain, ""),
                section("every", &plain, "pattern = \"*\""),
                section("ours", &tenants, "s3.bucket = \"acme:theirs\""),
                section("acme:ours", &plain, "s3.bucket = \"theirs\""),
            ]
            .concat(),
        )
        .start()
        .await;
    for (target, served_by, sent) in [
        ("/acme:photos/k", "tenant", "/acme:photos/k"),
        ("/acme%3Aphotos/k", "tenant", "/acme%3Aphotos/k"),
        ("/acme%3aphotos//a%2Fb?x=%3A", "tenant", "/acme%3aphotos//a%2Fb?x=%3A"),
        ("/%61cme:photos", "tenant", "/%61cme:photos"),
        ("/other:b-1/k", "tenant", "/other:b-1/k"),
        ("/other%3Ab%2D1/k", "tenant", "/other%3Ab%2D1/k"),
        ("/%3Acs-a/k", "tenant", "/%3Acs-a/k"),
        ("/:cs-a/k", "tenant", "/:cs-a/k"),
        ("/cs%2Da/k", "plain", "/cs%2Da/k"),
        ("/Any_thing/k", "plain", "/Any_thing/k"),
        ("/%41ny%5Fthing/k", "plain", "/%41ny%5Fthing/k"),
        ("/ours/a%3Ab", "tenant", "/acme%3Atheirs/a%3Ab"),
        ("/our%73/k?x", "tenant", "/acme%3Atheirs/k?x"),
        ("/acme%3Aours/k", "plain", "/theirs/k"),
    ] {
        let answer = get(gateway.address(), target).await;
        assert_eq!((answer.complete_status(), answer.text().as_str()), (200, served_by), "{target}");
        let seen = if served_by == "plain" { upstream.last() } else { tenant.last() };
        assert_eq!(seen.target, sent, "{target}");
    }
    for target in ["/acme:other/k", "/acme%3Aother/k", "/other:c/k", "/nobody:b-1/k"] {
        let answer = get(gateway.address(), target).await;
        assert_eq!(
            (answer.complete_status(), answer.reason()),
            (404, "no_such_bucket"),
            "{target}: `*` spans no `:`"
        );
    }
}

/// V12: a name without a tenant may be encoded too
#[tokio::test]
async fn an_encoded_name_equals_the_decoded_one() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("cs", &upstream).set("buckets.cs.pattern", "cs-*").start().await;
    for target in ["/cs-a/k", "/cs%2Da/k", "/%63s-%61/k", "/cs%2da?list-type=2"] {
        let answer = get(gateway.address(), target).await;
        assert_eq!(
            (answer.complete_status(), upstream.last().target.as_str()),
            (200, target),
            "{}",
            answer.text()
        );
    }
}

/// V3, V12: a path that decodes to no valid bucket name reaches no upstream, whatever the patterns
#[tokio::test]
async fn an_invalid_name_reaches_no_upstream() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("every", &upstream)
        .set("buckets.every.pattern", "*")
        .bucket("tenants", &upstream)
        .set("buckets.tenants.pattern", "*:*")
        .set("server.base_domains", "s3.test")
        .start()
        .await;
    for (target, status) in [
        ("/acme%253Aphotos/k", 404),
        ("/photos%2Fk", 404),
        ("/photos%2Fk/x", 404),
        ("/photos%5Ck/x", 404),
        ("/photos%2F../k", 400),
        ("/photos%2F..%2Fother/k", 400),
        ("/a%00b/k", 404),
        ("/a%0Ab/k", 404),
        ("/a%0D%0Ab/k", 404),
        ("/a%1fb/k", 404),
        ("/a%7fb/k", 404),
        ("/%2Da/k", 404),
        ("/-a/k", 404),
        ("/%2D/livez", 404),
        ("/%2E%2E/k", 400),
        ("/%2E/k", 400),
        ("/..%3A/k", 404),
        ("/..:photos/k", 404),
        ("/..%3Aphotos/k", 404),
        ("/acme%3A../k", 404),
        ("/acme:./k", 404),
        ("/acme:/k", 404),
        ("/acme%3A/k", 404),
        ("/:/k", 404),
        ("/a:b:c/k", 404),
        ("/a%3Ab%3Ac/k", 404),
        ("/a%c0%bab/k", 404),
        ("/a%e0%80%bab/k", 404),
        ("/a%ef%bc%9ab/k", 404),
        ("/a%ffb/k", 404),
        ("/a%zz/k", 404),
        ("/a%/k", 404),
        ("/a%2Ab/k", 404),
        ("/a%20b/k", 404),
        ("/a%3Fb/k", 404),
        ("/a%40b/k", 404),
        ("/a%3Bb/k", 404),
    ] {
        let answer = get(gateway.address(), target).await;
        assert_eq!(answer.complete_status(), status, "{target}: {}", answer.text());
    }
    for (host, status) in [
        ("acme:photos.s3.test", 400),
        ("acme%3Aphotos.s3.test", 404),
        ("acme%3aphotos.s3.test:80", 404),
        ("photos%2F.s3.test", 404),
        ("-a.s3.test", 404),
    ] {
        let mut client = Client::connect(gateway.address()).await;
        client.send(format!("GET /k HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
        assert_eq!(client.response("GET").await.complete_status(), status, "{host}");
    }
    assert_eq!(upstream.count(), 0);
}

/// O2, V12: a log line has the decoded bucket name if neither its path nor its section has it
#[tokio::test]
async fn the_log_has_the_decoded_name() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("tenants", &upstream)
        .set("buckets.tenants.pattern", "*:*")
        .bucket("every", &upstream)
        .set("buckets.every.pattern", "*")
        .bucket("exact", &upstream)
        .set("server.base_domains", "s3.test")
        .start()
        .await;
    for (host, target, section, name) in [
        ("gateway.test", "/acme%3Aphotos/1", "tenants", Some("acme:photos")),
        ("gateway.test", "/acme:photos/2", "tenants", None),
        ("gateway.test", "/ph%6Ftos/3", "every", Some("photos")),
        ("gateway.test", "/photos/4", "every", None),
        ("my.photos.s3.test", "/5", "every", Some("my.photos")),
        ("gateway.test", "/exac%74/6", "exact", None),
    ] {
        let mut client = Client::connect(gateway.address()).await;
        client.send(format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
        assert_eq!(client.response("GET").await.complete_status(), 200, "{target}");
        let line = gateway.wait_for_log_line("request", |line| line["path"] == target).await;
        assert_eq!((line["bucket"].as_str(), line["bucket_name"].as_str()), (Some(section), name), "{line}");
    }
}

/// V5: a form sent to an encoded name is stored under the same bytes
#[tokio::test]
async fn a_form_may_be_sent_to_an_encoded_name() {
    let upstream = Upstream::ok("");
    let gateway = Gateway::builder().bucket("b", &upstream).set("buckets.b.pattern", "acme:*").start().await;
    let body = "--x\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\na:b\r\n--x\r\n\
                Content-Disposition: form-data; name=\"file\"\r\n\r\ndata\r\n--x--\r\n";
    for (target, sent) in
        [("/acme%3Aphotos", "/acme%3Aphotos/a%3Ab"), ("/acme:photos/", "/acme:photos/a%3Ab")]
    {
        let kind = [("content-type", "multipart/form-data; boundary=x")];
        let answer = request(gateway.address(), "POST", target, &kind, Some(body.as_bytes())).await;
        assert_eq!(answer.complete_status(), 204, "{}", answer.text());
        assert_eq!(answer.header("location"), Some(format!("http://gateway.test{sent}").as_str()));
        assert_eq!((upstream.last().target.as_str(), &upstream.last().body[..]), (sent, &b"data"[..]));
    }
}
