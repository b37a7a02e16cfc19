//! Contradicting checksum headers, and checksum headers that only the store can check.

use super::{checksums, code, random_bytes, unsigned_chunks};
use crate::support::{Gateway, Upstream, UpstreamReply, request};

/// I1: two algorithms, or another than the SDK's declared one, are refused with S3's error before the body is read
#[tokio::test]
async fn contradicting_algorithms_are_refused() {
    let upstream = Upstream::ok("stored");
    let gateway = Gateway::in_front_of(&upstream).await;
    let data = random_bytes(1000);
    let sums = checksums(&data);
    let named = |name: &'static str| ("x-amz-sdk-checksum-algorithm", name);
    for (index, (name, value)) in sums.iter().enumerate() {
        let (other, other_value) = &sums[(index + 1) % sums.len()];
        let algorithm = name.trim_start_matches("x-amz-checksum-").to_ascii_uppercase();
        let own = [(*name, value.as_str()), ("x-amz-sdk-checksum-algorithm", algorithm.as_str())];
        let answer = request(gateway.address(), "PUT", "/b/k", &own, Some(&data)).await;
        assert_eq!(answer.complete_status(), 200, "{name}: {}", answer.text());
        assert_eq!(upstream.last().header(name), Some(value.as_str()));
        let before = upstream.count();
        let two = [(*name, value.as_str()), (*other, other_value.as_str())];
        let answer = request(gateway.address(), "PUT", "/b/k", &two, Some(&data)).await;
        assert_eq!(
            (answer.complete_status(), code(&answer).as_str()),
            (400, "InvalidRequest"),
            "{name} and {other}"
        );
        let differing = [(*other, other_value.as_str()), own[1]];
        let answer = request(gateway.address(), "PUT", "/b/k", &differing, Some(&data)).await;
        assert_eq!(
            (answer.complete_status(), code(&answer).as_str()),
            (400, "InvalidRequest"),
            "{name} and {other}"
        );
        assert_eq!(answer.reason(), "checksum_algorithm");
        let alone = [named("NONE"), ("content-type", "text/plain")];
        let answer = request(gateway.address(), "PUT", "/b/k", &alone, Some(&data)).await;
        assert_eq!((answer.complete_status(), code(&answer).as_str()), (400, "InvalidRequest"));
        assert_eq!(upstream.count(), before, "{name} and {other}");
    }
}

/// I1: a trailer with another algorithm than the declared one is refused
#[tokio::test]
async fn a_trailer_of_another_algorithm_is_refused() {
    let upstream = Upstream::ok("stored");
    let gateway = Gateway::in_front_of(&upstream).await;
    let data = random_bytes(1000);
    let [.., (name, value)] = checksums(&data);
    let body = unsigned_chunks(&data, 500, &format!("{name}:{value}\r\n"));
    let put = async |algorithm| {
        let headers = [
            ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
            ("x-amz-decoded-content-length", "1000"),
            ("x-amz-trailer", name),
            ("x-amz-sdk-checksum-algorithm", algorithm),
        ];
        request(gateway.address(), "PUT", "/b/k", &headers, Some(&body)).await
    };
    let refused = put("CRC32").await;
    assert_eq!((refused.complete_status(), refused.reason()), (400, "checksum_algorithm"));
    assert_eq!(upstream.count(), 0);
    assert_eq!(put("XXHASH128").await.complete_status(), 200);
    assert_eq!(upstream.last().header(name), Some(value.as_str()));
}

/// I1: the store checks the checksum type, because it has the upload's type. Its answer reaches the client
#[tokio::test]
async fn checksum_types_are_forwarded_to_the_store() {
    let upstream = Upstream::start(|seen| {
        let pair = (seen.header("x-amz-checksum-algorithm"), seen.header("x-amz-checksum-type"));
        match pair {
            (Some("SHA256"), Some("FULL_OBJECT")) | (Some("CRC64NVME"), Some("COMPOSITE")) => {
                UpstreamReply::s3_error(400, "InvalidRequest")
            }
            _ => UpstreamReply::ok("<InitiateMultipartUploadResult/>"),
        }
    });
    let gateway = Gateway::in_front_of(&upstream).await;
    for (algorithm, kind, status) in [
        ("SHA256", "FULL_OBJECT", 400),
        ("CRC64NVME", "COMPOSITE", 400),
        ("SHA256", "COMPOSITE", 200),
        ("XXHASH3", "COMPOSITE", 200),
        ("CRC64NVME", "FULL_OBJECT", 200),
    ] {
        let headers = [("x-amz-checksum-algorithm", algorithm), ("x-amz-checksum-type", kind)];
        let answer = request(gateway.address(), "POST", "/b/k?uploads", &headers, Some(b"")).await;
        assert_eq!((answer.complete_status(), answer.reason()), (status, ""), "{algorithm} {kind}");
    }
    let document = "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ChecksumSHA512>x</ChecksumSHA512></Part>\
                    </CompleteMultipartUpload>";
    let headers = [
        ("x-amz-checksum-crc64nvme", "rosUhgp5mIg="),
        ("x-amz-checksum-type", "FULL_OBJECT"),
        ("x-amz-mp-object-size", "9"),
    ];
    let answer =
        request(gateway.address(), "POST", "/b/k?uploadId=7", &headers, Some(document.as_bytes())).await;
    assert_eq!(answer.complete_status(), 200, "{}", answer.text());
    let seen = upstream.last();
    assert_eq!(seen.body, document.as_bytes());
    for (name, value) in headers {
        assert_eq!(seen.header(name), Some(value), "{name}");
    }
}

/// I1: the trailing checksum of a CompleteMultipartUpload is the document's; as a header it would mean the object's
#[tokio::test]
async fn a_documents_trailer_becomes_no_checksum_of_the_object() {
    let upstream = Upstream::ok("<CompleteMultipartUploadResult/>");
    let gateway = Gateway::in_front_of(&upstream).await;
    let document = b"<CompleteMultipartUpload></CompleteMultipartUpload>";
    let (name, value) = &checksums(document)[0];
    let length = document.len().to_string();
    let headers = [
        ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
        ("x-amz-decoded-content-length", length.as_str()),
        ("x-amz-trailer", name),
    ];
    let post = async |value: &str| {
        let body = unsigned_chunks(document, 20, &format!("{name}:{value}\r\n"));
        request(gateway.address(), "POST", "/b/k?uploadId=7", &headers, Some(&body)).await
    };
    let wrong = post("AAAAAA==").await;
    assert_eq!((wrong.complete_status(), code(&wrong).as_str()), (400, "BadDigest"));
    assert_eq!(post(value).await.complete_status(), 200);
    let seen = upstream.last();
    assert_eq!((seen.body.as_slice(), seen.header(name)), (&document[..], None));
}
