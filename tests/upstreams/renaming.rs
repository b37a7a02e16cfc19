//! A bucket with another name at the store: answers have the client's name exactly in the bucket fields of the S3
//! schema.

use crate::support::{Gateway, Response, Upstream, UpstreamReply, get, request};

/// A bucket `a` that is `b` at the store.
async fn renamed(upstream: &Upstream, addressing: &str) -> Gateway {
    Gateway::builder()
        .bucket("a", upstream)
        .set("buckets.a.s3.bucket", "b")
        .set("buckets.a.s3.addressing", addressing)
        .set("buckets.a.s3.endpoints", &format!("http://localhost:{}", upstream.address().port()))
        .start()
        .await
}

/// A store with the same answer to every request.
fn always(reply: UpstreamReply) -> Upstream {
    Upstream::start(move |_| reply.clone())
}

fn xml(status: u16, document: &str) -> UpstreamReply {
    UpstreamReply::new(status, document).header("content-type", "application/xml")
}

/// The client's document for one of the store's.
async fn document(addressing: &str, target: &str, status: u16, document: &str) -> String {
    let upstream = always(xml(status, document));
    let gateway = renamed(&upstream, addressing).await;
    let answer = get(gateway.address(), target).await;
    assert_eq!(answer.complete_status(), status);
    answer.text()
}

/// V5: in listings only the bucket name changes, even if every key, prefix, marker and delimiter resembles it
#[tokio::test]
async fn a_listing_keeps_keys_that_resemble_the_bucket() {
    for (root, bucket) in [
        ("ListBucketResult", "Name"),
        ("ListVersionsResult", "Name"),
        ("ListMultipartUploadsResult", "Bucket"),
    ] {
        let of = |name: &str| {
            format!(
                "<?xml version=\"1.0\"?><{root}><Delimiter>b</Delimiter><{bucket}>{name}</{bucket}><Prefix>b</Prefix><Marker>b</Marker>\
                 <KeyMarker>b</KeyMarker><NextKeyMarker>b</NextKeyMarker><UploadIdMarker>b</UploadIdMarker><StartAfter>b</StartAfter>\
                 <Location>b</Location><Resource>/b/b</Resource><BucketName>b</BucketName>\
                 <Contents><Key>b</Key><Name>b</Name><Bucket>b</Bucket><Owner><DisplayName>b</DisplayName></Owner></Contents>\
                 <Upload><Key>b/b</Key><UploadId>b</UploadId></Upload><CommonPrefixes><Prefix>b/</Prefix></CommonPrefixes></{root}>"
            )
        };
        assert_eq!(document("path", "/a?prefix=b&delimiter=b", 200, &of("b")).await, of("a"), "{root}");
    }
}

/// I1, V5: the store's digests are for its own document, so they are removed from a changed one
#[tokio::test]
async fn digests_of_changed_documents_are_removed() {
    let listing = |digested: UpstreamReply| {
        digested.header("x-amz-checksum-crc32", "AAAAAA==").header("content-md5", "AAAA")
    };
    for (target, document, stays) in [
        ("/a?prefix=x", "<ListBucketResult><Name>b</Name></ListBucketResult>", false),
        ("/a/k?acl", "<AccessControlPolicy></AccessControlPolicy>", true),
    ] {
        let upstream = always(listing(xml(200, document)).header("x-amz-checksum-type", "COMPOSITE"));
        let gateway = renamed(&upstream, "path").await;
        let answer = get(gateway.address(), target).await;
        assert_eq!(answer.complete_status(), 200);
        for name in ["x-amz-checksum-crc32", "content-md5"] {
            assert_eq!(answer.header(name).is_some(), stays, "{target} {name}");
        }
    }
}

/// V5, E2: an error has the client's request path; a key that resembles that path is unchanged
#[tokio::test]
async fn an_error_keeps_a_key_that_resembles_its_path() {
    let of = |bucket: &str, resource: &str| {
        format!(
            "<Error><Code>NoSuchKey</Code><Message>b</Message><Key>b/k</Key><Location>b</Location><Name>b</Name>\
             <BucketName>{bucket}</BucketName><Resource>{resource}</Resource></Error>"
        )
    };
    for (addressing, sent, received) in [
        ("path", "/b/b/k", "/a/b/k"),
        ("virtual", "/b/b/k", "/a/b/k"),
        ("virtual", "/b/k", "/b/k"),
        ("virtual", "/b", "/a"),
    ] {
        let answer = document(addressing, "/a/b/k", 404, &of("b", sent)).await;
        assert_eq!(answer, of("a", received), "{addressing}: {sent}");
    }
}

/// V5: an object is never rewritten, even if its query or its contents resemble those of another operation
#[tokio::test]
async fn an_object_that_resembles_a_document_is_unchanged() {
    let object = "<ListBucketResult><Name>b</Name></ListBucketResult>";
    for target in ["/a/b", "/a/b/k?uploadId=7", "/a/b?response-content-type=text%2Fxml"] {
        assert_eq!(document("path", target, 200, object).await, object, "{target}");
    }
    let parts =
        |name: &str| format!("<ListPartsResult><Bucket>{name}</Bucket><Key>b</Key></ListPartsResult>");
    assert_eq!(document("path", "/a/b?uploadId=7", 200, &parts("b")).await, parts("a"));
}

/// Sends a request with a body and returns the answer to it.
async fn write(reply: UpstreamReply, method: &str, target: &str, headers: &[(&str, &str)]) -> Response {
    let upstream = always(reply);
    let gateway = renamed(&upstream, "path").await;
    let answer = request(gateway.address(), method, target, headers, Some(b"x")).await;
    assert_eq!(answer.broken, None);
    answer
}

/// V5: the only header with the bucket's name is the location of a new bucket
#[tokio::test]
async fn headers_that_resemble_the_bucket_are_unchanged() {
    let like = |location: &str| {
        UpstreamReply::ok("")
            .header("location", location)
            .header("x-amz-meta-b", "/b/k")
            .header("x-amz-version-id", "b")
            .header("x-amz-website-redirect-location", "/b/k")
            .header("x-amz-bucket-arn", "arn:aws:s3:::b")
    };
    for (target, sent, received) in [
        ("/a", "/b", "/a"),
        ("/a/", "/b/", "/a/"),
        ("/a", "/bb", "/bb"),
        ("/a", "http://b.store.test/", "http://gateway.test/a"),
        ("/a/b/k", "/b/b/k", "/b/b/k"),
    ] {
        let answer = write(like(sent), "PUT", target, &[]).await;
        assert_eq!(answer.header("location"), Some(received), "PUT {target}: {sent}");
        for (name, value) in [
            ("x-amz-meta-b", "/b/k"),
            ("x-amz-version-id", "b"),
            ("x-amz-website-redirect-location", "/b/k"),
            ("x-amz-bucket-arn", "arn:aws:s3:::b"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{target}");
        }
    }
}

/// V5, E2: an error document in a 200 has the client's name like any error
#[tokio::test]
async fn a_late_error_has_the_clients_name() {
    let of =
        |bucket: &str| format!("<Error><Code>InternalError</Code><BucketName>{bucket}</BucketName></Error>");
    for (method, target, headers) in
        [("PUT", "/a/k", &[("x-amz-copy-source", "a/b")][..]), ("POST", "/a/k?uploadId=7", &[])]
    {
        let answer = write(xml(200, &of("b")), method, target, headers).await;
        assert_eq!(answer.text(), of("a"), "{method} {target}");
    }
}

/// V5: every upload step keeps a key that resembles the bucket
#[tokio::test]
async fn an_upload_keeps_a_key_that_resembles_the_bucket() {
    let begun = |bucket: &str| {
        format!(
            "<InitiateMultipartUploadResult><Bucket>{bucket}</Bucket><Key>b</Key><UploadId>b</UploadId>\
             <Name>b</Name></InitiateMultipartUploadResult>"
        )
    };
    let answer = write(xml(200, &begun("b")), "POST", "/a/b?uploads", &[]).await;
    assert_eq!(answer.text(), begun("a"));
    let done = |location: &str, bucket: &str| {
        format!(
            "<CompleteMultipartUploadResult><Location>{location}</Location><Bucket>{bucket}</Bucket><Key>b</Key><ETag>b</ETag>\
             </CompleteMultipartUploadResult>"
        )
    };
    let answer = write(xml(200, &done("http://store/b/b", "b")), "POST", "/a/b?uploadId=b", &[]).await;
    assert_eq!(answer.text(), done("http://gateway.test/a/b", "a"));
}

/// V5: a compressed document cannot be rewritten, and any response may be an error document with names: a renamed bucket's store is
/// asked for no compression (RFC 9110, 12.5.3)
#[tokio::test]
async fn a_renamed_buckets_answers_are_not_compressed() {
    let upstream = Upstream::ok("x");
    let gateway = renamed(&upstream, "path").await;
    let below_path = Gateway::builder()
        .bucket("a", &upstream)
        .set("buckets.a.s3.endpoints", &format!("http://{}/storage", upstream.address()))
        .start()
        .await;
    let unnamed = Gateway::in_front_of(&upstream).await;
    for (gateway, bucket, expected) in
        [(&gateway, "a", "identity"), (&below_path, "a", "identity"), (&unnamed, "b", "gzip")]
    {
        for (method, target) in
            [("GET", "?list-type=2"), ("GET", "/k?uploadId=7"), ("GET", "/k"), ("DELETE", "/k")]
        {
            let (gzip, target) = ([("accept-encoding", "gzip")], format!("/{bucket}{target}"));
            request(gateway.address(), method, &target, &gzip, None).await.complete_status();
            assert_eq!(upstream.last().header("accept-encoding"), Some(expected), "{method} {target}");
        }
    }
}
