//! Regions in client signatures: which are accepted, and which answers name the right one.

use std::time::Duration;

use super::{ID, SECRET, Signer, s3_error_code, send, send_signed, signed_bucket, signer, with_key};
use crate::support::{Client, Gateway, Response, Upstream, UpstreamReply, get, head, request};

const REGION: &str = "x-amz-bucket-region";

fn signer_for(region: &str) -> Signer {
    Signer { region: region.to_owned(), ..Signer::new(ID, SECRET) }
}

/// The region in the scope of the gateway's own signature.
fn upstream_region(upstream: &Upstream) -> String {
    let seen = upstream.last();
    let authorization = seen.header("authorization").unwrap();
    authorization.split('/').nth(2).unwrap().to_owned()
}

/// A9: a signature with any region, or an empty one, is accepted in the header and in a URL; the store gets the
/// bucket's region
#[tokio::test]
async fn any_region_is_accepted() {
    let upstream = Upstream::ok("x");
    let gateway = signed_bucket(&upstream)
        .set("buckets.b.s3.region", "RegionOne")
        .set("buckets.b.s3.access_key_id", "STORE")
        .set("buckets.b.s3.secret_access_key", "stores-own")
        .start()
        .await;
    for region in ["us-east-1", "eu-west-1", "", "0", "default", "RegionOne", &"r".repeat(32)] {
        for method in ["GET", "HEAD", "PUT", "DELETE"] {
            let answer = send_signed(&gateway, &signer_for(region), method, "/b/k").await;
            assert_eq!(answer.complete_status(), 200, "{region} {method}: {}", answer.text());
            assert_eq!(upstream_region(&upstream), "RegionOne");
        }
        let url = signer_for(region).presigned("GET", "/b/k", "60");
        assert_eq!(get(gateway.address(), &url).await.complete_status(), 200, "{url}");
        let forged = Signer { secret: "another".to_owned(), ..signer_for(region) };
        assert_eq!(send_signed(&gateway, &forged, "GET", "/b/k").await.reason(), "signature_mismatch");
    }
    let url = signer_for("eu-west-1").presigned("GET", "/b/k", "60").replace("eu-west-1", "eu%2Dwe%73t-1");
    assert_eq!(get(gateway.address(), &url).await.complete_status(), 200, "the same region, encoded");
    let url = signer_for("eu-west-1").presigned("GET", "/b/k", "60").replace("eu-west-1", "eu-west-2");
    assert_eq!(get(gateway.address(), &url).await.reason(), "signature_mismatch", "the signature covers it");
}

/// A9, V8: a malformed region is refused with the region to use, at any length, and nothing is sent upstream
#[tokio::test]
async fn a_malformed_region_is_refused() {
    let upstream = Upstream::ok("x");
    let gateway = signed_bucket(&upstream).start().await;
    let long = "r".repeat(33);
    for region in ["US-EAST-1", "us_east_1", "us-east-1 ", "<r>", "r\tr", "*", ".", &long, &"r".repeat(7000)]
    {
        let answer = send_signed(&gateway, &signer_for(region), "GET", "/b/k").await;
        let expected = (400, "AuthorizationHeaderMalformed".to_owned());
        assert_eq!((answer.complete_status(), s3_error_code(&answer)), expected, "{region}");
        assert_eq!(answer.header(REGION), Some("us-east-1"));
        assert!(answer.text().contains("<Region>us-east-1</Region>") && answer.body.len() < 1000);
    }
    for region in ["US-EAST-1", "%C3%BC", "%00", "eu%2Fwest", "eu%252Fwest", "r+r", &"r".repeat(6000)] {
        let url = signer_for(region).presigned("GET", "/b/k", "60");
        let answer = get(gateway.address(), &url).await;
        assert_eq!(answer.complete_status(), 400, "{region}: {}", answer.text());
        assert!(answer.body.len() < 1000);
    }
    // With two scopes, the first is parsed as part of the key ID.
    let mut twice = signer().headers("GET", "/b/k", "UNSIGNED-PAYLOAD", &[]);
    let (_, value) = twice.iter_mut().find(|(name, _)| name == "authorization").unwrap();
    let id = format!("Credential={ID}/");
    assert!(value.contains(&id), "{value}");
    *value = value.replace(&id, &format!("{id}20130524/eu-west-1/s3/aws4_request/"));
    let answer = send(&gateway, "GET", "/b/k", &twice, None).await;
    assert_eq!((answer.complete_status(), s3_error_code(&answer)), (403, "InvalidAccessKeyId".to_owned()));
    let megabyte = signer_for(&"r".repeat(1 << 20));
    let mut client = Client::connect(gateway.address()).await;
    let headers = megabyte.headers("GET", "/b/k", "UNSIGNED-PAYLOAD", &[]);
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    // The gateway may close before it has read all bytes.
    let _ = client.try_send(crate::support::client::message("GET", "/b/k", &headers, None)).await;
    assert!(client.try_response("GET").await.is_none_or(|answer| answer.status == 431));
    assert_eq!(upstream.count(), 0);
    assert_eq!(send_signed(&gateway, &signer(), "GET", "/b/k").await.complete_status(), 200);
}

/// A9: a bucket with a list of regions accepts no other, and names its own, also in answers without a body
#[tokio::test]
async fn only_listed_regions_are_accepted() {
    let upstream = Upstream::ok("x");
    let gateway = signed_bucket(&upstream)
        .set("buckets.b.client_regions", "eu-west-1,eu-north-1")
        .set("s3.region", "eu-central-1")
        .start()
        .await;
    for region in ["eu-west-1", "eu-north-1"] {
        assert_eq!(send_signed(&gateway, &signer_for(region), "GET", "/b/k").await.complete_status(), 200);
    }
    for region in ["us-east-1", "eu-central-1", "", "eu-west-2"] {
        let answer = send_signed(&gateway, &signer_for(region), "GET", "/b/k").await;
        let expected = (400, "AuthorizationHeaderMalformed".to_owned());
        assert_eq!((answer.complete_status(), s3_error_code(&answer)), expected, "{region}");
        assert!(answer.text().contains("<Region>eu-west-1</Region>"), "{}", answer.text());
        assert_eq!(answer.headers_named(REGION), ["eu-west-1"]);
        let without_body = send_signed(&gateway, &signer_for(region), "HEAD", "/b/k").await;
        assert_eq!(
            (without_body.complete_status(), without_body.headers_named(REGION)),
            (400, vec!["eu-west-1"])
        );
    }
    assert_eq!(upstream.count(), 2);
    // SDKs ask for the region with a signature for another one.
    for target in ["/b?location", "/b/?location="] {
        let answer = send_signed(&gateway, &signer(), "GET", target).await;
        assert_eq!(answer.complete_status(), 200, "{target}");
        assert!(answer.text().contains(">eu-west-1</LocationConstraint>"), "{}", answer.text());
        assert_eq!(
            send_signed(&gateway, &signer_for("eu-west-2"), "GET", target).await.complete_status(),
            400
        );
    }
    for target in ["/b/k?location", "/b?locations", "/b", "/b?prefix=location"] {
        assert_eq!(send_signed(&gateway, &signer(), "GET", target).await.complete_status(), 400, "{target}");
    }
    assert_eq!(send_signed(&gateway, &signer(), "PUT", "/b?location").await.complete_status(), 400);
}

/// A9: the list of buckets accepts a signature for any region
#[tokio::test]
async fn the_bucket_list_accepts_any_region() {
    let upstream = Upstream::ok("x");
    let gateway = signed_bucket(&upstream).set("buckets.b.client_regions", "eu-west-1").start().await;
    for region in ["us-east-1", "ap-south-1", ""] {
        let answer = send_signed(&gateway, &signer_for(region), "GET", "/").await;
        assert_eq!(answer.complete_status(), 200, "{region}: {}", answer.text());
        assert!(answer.text().contains("<Name>b</Name>"));
    }
    assert_eq!(send_signed(&gateway, &signer_for("A"), "GET", "/").await.complete_status(), 400);
}

/// A9, C1: forged signatures for new regions add nothing to the cache of signing keys, and a valid client's key is
/// still derived once
#[tokio::test]
async fn forged_regions_do_not_reach_the_cache() {
    let upstream = Upstream::ok("x");
    let gateway = signed_bucket(&upstream).set("sessions.capacity", "10").start().await;
    assert_eq!(send_signed(&gateway, &signer(), "GET", "/b/k").await.complete_status(), 200);
    let before = gateway.status().await["sessions"].clone();
    for n in 0..40 {
        let forged = Signer { secret: "another".to_owned(), ..signer_for(&format!("region-{n}")) };
        assert_eq!(send_signed(&gateway, &forged, "GET", "/b/k").await.reason(), "signature_mismatch");
        let url = forged.presigned("GET", "/b/k", "60");
        assert_eq!(get(gateway.address(), &url).await.reason(), "signature_mismatch");
    }
    for n in 0..20 {
        assert_eq!(
            send_signed(&gateway, &signer_for(&format!("region-{n}")), "GET", "/b/k").await.complete_status(),
            200
        );
    }
    assert_eq!(gateway.status().await["sessions"], before, "neither derived nor cached");
}

fn location(region: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <LocationConstraint xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{region}</LocationConstraint>"
    )
}

fn assert_location(answer: &Response, region: &str) {
    assert_eq!((answer.complete_status(), answer.text()), (200, location(region)));
    assert_eq!(answer.header("content-type"), Some("application/xml"));
    assert!(answer.header("x-request-id").is_some() && answer.header("x-amz-request-id").is_some());
}

/// A9, E6: GetBucketLocation returns the gateway's region, whatever the store's document contains, and the store's
/// connection is reused
#[tokio::test]
async fn the_location_is_the_gateways_region() {
    let xml = |body: &str| UpstreamReply::ok(body).header("content-type", "application/xml");
    let huge = "<".repeat(3 << 20);
    for reply in [
        xml(&location("default")),
        xml(&location("default")).header(REGION, "default"),
        UpstreamReply::ok("<html>not found</html>").header("content-type", "text/html"),
        xml("\u{1}<a><b"),
        xml(""),
        UpstreamReply::ok(&huge),
        UpstreamReply::ok(&huge).chunked(),
        xml(&location("x")).chunked().then_body_after(Duration::from_millis(50), "more"),
        xml(&location("x")).until_close(),
        xml(&location("x")).cut_at(9),
    ] {
        let upstream = Upstream::start(move |_| reply.clone());
        let gateway = signed_bucket(&upstream).start().await;
        assert_location(&send_signed(&gateway, &signer(), "GET", "/b?location").await, "");
        assert_location(&get(gateway.address(), &signer().presigned("GET", "/b/?location", "60")).await, "");
        assert_eq!(upstream.count(), 2);
        assert!(upstream.seen().iter().all(|seen| seen.target.ends_with("?location")));
        gateway.wait_until_idle().await;
    }
    let upstream = Upstream::start(move |_| xml(&location("default")));
    let gateway = Gateway::builder().bucket("b", &upstream).set("s3.region", "eu-central-1").start().await;
    assert_location(&get(gateway.address(), "/b?location").await, "eu-central-1");
    let upstream = Upstream::start(move |_| xml(&location("default")));
    let gateway = Gateway::in_front_of(&upstream).await;
    for _ in 0..3 {
        assert_location(&get(gateway.address(), "/b?location").await, "");
    }
    assert!(upstream.connections() <= 2, "a connection for each worker, and no more");
}

/// A9, E2: the store's errors for GetBucketLocation are forwarded, after the policy check
#[tokio::test]
async fn a_stores_location_error_is_forwarded() {
    for (status, error) in [(403, "AccessDenied"), (404, "NoSuchBucket"), (501, "NotImplemented")] {
        let upstream = Upstream::start(move |_| UpstreamReply::s3_error(status, error));
        let gateway = signed_bucket(&upstream)
            .set("keys.writer.access_key_id", "AKIDWRITER")
            .set("keys.writer.secret", "writers-secret")
            .set("keys.writer.policy", "writes")
            .set("policies.writes.buckets", "*")
            .set("policies.writes.methods", "write")
            .start()
            .await;
        let answer = send_signed(&gateway, &signer(), "GET", "/b?location").await;
        assert_eq!(
            (answer.complete_status(), s3_error_code(&answer), answer.reason()),
            (status, error.to_owned(), "")
        );
        let denied =
            send_signed(&gateway, &Signer::new("AKIDWRITER", "writers-secret"), "GET", "/b?location").await;
        assert_eq!((denied.complete_status(), denied.reason()), (403, "policy_denied"));
        assert_eq!(upstream.count(), 1);
    }
}

/// A9: HeadBucket and every HEAD error name the gateway's region once; it replaces the store's region in an answer
#[tokio::test]
async fn answers_name_the_gateways_region() {
    let upstream = Upstream::start(|seen| match seen.target.as_str() {
        "/b/none" => UpstreamReply::status(404),
        "/b/old" => UpstreamReply::status(304),
        "/b/told" => UpstreamReply::ok("x").header("x-amz-bucket-region", "stores"),
        "/b/denied" => UpstreamReply::s3_error(403, "AccessDenied").header("X-Amz-Bucket-Region", "stores"),
        "/b" => UpstreamReply::ok("").header("x-amz-bucket-region", "stores"),
        _ => UpstreamReply::ok("x"),
    });
    let gateway = signed_bucket(&upstream)
        .set("buckets.b.auth", "sigv4,anonymous")
        .set("buckets.b.anonymous", "read,list")
        .set("s3.region", "eu-central-1")
        .http_bucket("api", &upstream)
        .start()
        .await;
    let region_of = |answer: &Response| answer.headers_named(REGION).join(",");
    for (method, target, status, region) in [
        ("HEAD", "/b", 200, "eu-central-1"),
        ("HEAD", "/b/", 200, "eu-central-1"),
        ("HEAD", "/b/none", 404, "eu-central-1"),
        ("HEAD", "/b/denied", 403, "eu-central-1"),
        ("HEAD", "/b/told", 200, "eu-central-1"),
        ("HEAD", "/b/k", 200, ""),
        ("HEAD", "/b/old", 304, ""),
        ("GET", "/b/denied", 403, "eu-central-1"),
        ("GET", "/b/told", 200, "eu-central-1"),
        ("GET", "/b/none", 404, ""),
        ("GET", "/b/k", 200, ""),
        ("HEAD", "/unknown", 404, "eu-central-1"),
        ("HEAD", "/unknown/k", 404, "eu-central-1"),
        ("HEAD", "/", 405, "eu-central-1"),
        ("GET", "/unknown/k", 404, ""),
        ("HEAD", "/b/k?acl", 403, "eu-central-1"),
        ("HEAD", "/api/k", 200, ""),
        ("HEAD", "/api/none", 200, ""),
    ] {
        let answer = request(gateway.address(), method, target, &[], None).await;
        assert_eq!(
            (answer.complete_status(), region_of(&answer).as_str()),
            (status, region),
            "{method} {target}"
        );
    }
    for (secret, reason) in [(SECRET, ""), ("another", "signature_mismatch")] {
        let answer = send_signed(&gateway, &Signer::new(ID, secret), "HEAD", "/b").await;
        assert_eq!((answer.reason(), region_of(&answer).as_str()), (reason, "eu-central-1"));
    }
    upstream.stop().await;
    let failed = head(gateway.address(), "/b/k").await;
    assert_eq!((failed.complete_status(), region_of(&failed).as_str()), (502, "eu-central-1"));
}

/// A9, G1: an invalid region is a start-up error, and so is a list without effect
#[tokio::test]
async fn invalid_regions_are_start_up_errors() {
    let upstream = Upstream::ok("x");
    for (key, value, text) in [
        ("s3.region", "eu west", "s3.region"),
        ("s3.region", "", "s3.region"),
        ("buckets.b.client_regions", "eu-west-1,<r>", "buckets.b.client_regions"),
        ("buckets.b.client_regions", "eu-west-1,", "buckets.b.client_regions"),
    ] {
        let ended = signed_bucket(&upstream).set(key, value).run();
        assert_eq!(ended.code, Some(78), "{key} = {value}: {ended:?}");
        assert!(
            ended.stderr.contains(text) && ended.stderr.contains("not the name of a region"),
            "{ended:?}"
        );
    }
    let open =
        with_key(Gateway::builder().bucket("b", &upstream)).set("buckets.b.client_regions", "eu-west-1");
    let ended = open.run();
    assert_eq!(ended.code, Some(78));
    assert!(ended.stderr.contains("does not list sigv4"), "{ended:?}");
}

/// The answer to a form signed for this region.
async fn post_signed_form(gateway: &Gateway, signer: &Signer) -> Response {
    let mut fields = signer.form_fields();
    fields.push(("key".to_owned(), "k".to_owned()));
    let exact = |(name, value): &(String, String)| format!("{{\"{name}\": \"{value}\"}}");
    let mut conditions: Vec<String> = fields.iter().map(exact).collect();
    conditions.push("{\"bucket\": \"b\"}".to_owned());
    let policy =
        format!("{{\"expiration\": \"2099-01-01T00:00:00Z\", \"conditions\": [{}]}}", conditions.join(", "));
    fields.extend(signer.sign_policy(&policy));
    let part = |(name, value): &(String, String)| {
        format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let form: String = fields.iter().map(part).collect();
    let form = form + "--x\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\ndata\r\n--x--\r\n";
    let kind = [("content-type", "multipart/form-data; boundary=x")];
    request(gateway.address(), "POST", "/b", &kind, Some(form.as_bytes())).await
}

/// A9: forms may be signed for any region, or for the listed ones
#[tokio::test]
async fn forms_may_be_signed_for_any_region() {
    let upstream = Upstream::ok("");
    let gateway = signed_bucket(&upstream).start().await;
    for region in ["us-east-1", "eu-west-1", ""] {
        assert_eq!(post_signed_form(&gateway, &signer_for(region)).await.complete_status(), 204, "{region}");
        let forged = Signer { secret: "another".to_owned(), ..signer_for(region) };
        assert_eq!(post_signed_form(&gateway, &forged).await.reason(), "signature_mismatch");
    }
    assert_eq!(
        post_signed_form(&gateway, &signer_for("US-EAST-1")).await.reason(),
        "form_signature_malformed"
    );
    let listing = signed_bucket(&upstream).set("buckets.b.client_regions", "eu-west-1").start().await;
    assert_eq!(post_signed_form(&listing, &signer_for("eu-west-1")).await.complete_status(), 204);
    let refused = post_signed_form(&listing, &signer()).await;
    assert_eq!((refused.complete_status(), refused.reason()), (400, "form_signature_malformed"));
    assert_eq!(refused.header(REGION), Some("eu-west-1"));
    assert!(refused.text().contains("<Region>eu-west-1</Region>"), "{}", refused.text());
    assert_eq!(upstream.count(), 4);
}
