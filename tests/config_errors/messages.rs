//! Messages of errors and warnings: keys as a file spells them, what is wrong, and what to do.

use std::net::TcpListener;

use super::{bucket, check, refused};
use crate::support::Gateway;
use crate::support::gateway::{Builder, ExitReport};

/// The warnings for a file; it has no error.
fn warnings_of(file: &str) -> String {
    let ExitReport { code, stdout, stderr } = check(Gateway::builder().config(file));
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    stderr
}

/// G12, V12: a tenant's name needs quotes in a key, in the name of the key and in the hint
#[test]
fn keys_with_a_colon_are_quoted() {
    let closed = "[buckets.\"acme:photos\"]\ns3.endpoints = [\"http://127.0.0.1:9000\"]\n";
    let warning = warnings_of(closed);
    assert!(warning.starts_with("warning: buckets.\"acme:photos\".auth: is empty"), "{warning}");
    assert!(warning.contains("set buckets.\"acme:photos\".auth to"), "{warning}");
    // The key of the hint is valid in a file.
    let open = "buckets.\"acme:photos\".auth = [\"anonymous\"]\n\
                  buckets.\"acme:photos\".s3.endpoints = [\"http://127.0.0.1:9000\"]\n";
    assert_eq!(warnings_of(open), "");
    let overlapping = "[buckets.\"a:x\"]\nauth = [\"anonymous\"]\npattern = \"logs-*\"\n\
                       s3.endpoints = [\"http://127.0.0.1:9000\"]\n\
                       [buckets.y]\nauth = [\"anonymous\"]\npattern = \"*-au\"\n\
                       s3.endpoints = [\"http://127.0.0.1:9000\"]\n";
    let warning = warnings_of(overlapping);
    assert!(warning.contains("which go to buckets.\"a:x\""), "{warning}");
}

/// G1: a key that is missing beside another one
#[test]
fn half_a_key_pair_names_the_other_half() {
    refused(
        bucket().set("buckets.b.s3.access_key_id", "half"),
        &["buckets.b.s3.secret_access_key: is required together with buckets.b.s3.access_key_id (not set)"],
    );
}

/// G1: an address that cannot be listened on, with the remedy
#[test]
fn an_address_that_cannot_be_used_has_a_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let start = |builder: Builder| {
        let ExitReport { code, stdout, stderr } = builder.run();
        assert_eq!(code, Some(69), "{stdout}{stderr}");
        stderr
    };
    let stderr = start(bucket().env("TIDEGATE_SERVER__PORT", &port));
    let expected = "stop the process that listens there, or set server.port to another port";
    assert!(stderr.contains(&format!("server.port: cannot listen on 127.0.0.1:{port}: ")), "{stderr}");
    assert!(stderr.contains(expected), "{stderr}");
    let stderr = start(bucket().env("TIDEGATE_ADMIN__PORT", &port));
    assert!(stderr.contains("set admin.port to another port"), "{stderr}");
    // A documentation address (RFC 5737), which no machine has.
    let stderr = start(bucket().set("server.address", "192.0.2.1"));
    assert!(stderr.contains("set server.address to an address of this machine"), "{stderr}");
}

/// C4, G1: the error about a URL with a query or a fragment does not repeat them: they may be secret
#[test]
fn queries_of_urls_are_hidden() {
    let keys = [
        ("buckets.b.s3.endpoints", "http://h/j"),
        ("buckets.b.s3.failover.endpoints", "https://h:9/j"),
        ("buckets.b.s3.container_credentials.url", "http://127.0.0.1"),
        ("jwt.jwks_url", "ftp://h/j"),
        ("jwt.jwks_url", "http://h:0"),
    ];
    for (key, url) in keys {
        for end in ["?token=HIDDEN1234", "#HIDDEN1234", "?a#HIDDEN1234"] {
            let ExitReport { code, stdout, stderr } = check(bucket().set(key, &format!("{url}{end}")));
            assert_eq!(code, Some(78), "{stdout}{stderr}");
            assert!(stderr.contains(&format!("{key}: \"{url}?(hidden)\"")), "{key}: {stderr}");
            assert!(!stderr.contains("HIDDEN1234") && !stdout.contains("HIDDEN1234"), "{key}: {stderr}");
        }
    }
}

/// G12: path-style requests add the bucket to an endpoint's path that has it already
#[test]
fn an_endpoint_that_ends_with_its_bucket_warns() {
    let file = |endpoint: &str, more: &str| {
        format!(
            "[buckets.photos]\nauth = [\"anonymous\"]\ns3.endpoints = [\"http://127.0.0.1:9000{endpoint}\"]\n{more}"
        )
    };
    for (endpoint, more, goes_to) in [
        ("/photos", "", "/photos/photos"),
        ("/s3/photos/", "", "/s3/photos/photos"),
        ("/real", "s3.bucket = \"real\"\n", "/real/real"),
    ] {
        let warning = warnings_of(&file(endpoint, more));
        assert!(
            warning.starts_with("warning: buckets.photos.s3.endpoints: http://127.0.0.1:9000/"),
            "{warning}"
        );
        assert!(warning.contains(&format!("they go to {goes_to} ")), "{warning}");
        assert!(warning.contains("remove the bucket from the URL"), "{warning}");
    }
    for (endpoint, more) in [
        ("", ""),
        ("/s3", ""),
        ("/photos/s3", ""),
        ("/my-photos", ""),
        ("/photos", "s3.bucket = \"real\"\n"),
        ("/photos", "kind = \"http\"\n"),
    ] {
        let file = file(endpoint, more);
        let file = if more.contains("http") { file.replace("s3.endpoints", "http.endpoints") } else { file };
        assert_eq!(warnings_of(&file), "", "{file}");
    }
}

/// G12, A9: a region of AWS in upper case is another region; other stores have regions with upper-case letters
#[test]
fn a_region_of_aws_in_upper_case_warns() {
    for key in ["buckets.b.s3.region", "s3.region", "buckets.b.client_regions"] {
        let with_region = |region: &str| {
            bucket()
                .set("buckets.b.auth", "sigv4")
                .set("keys.k.secret", "0123456789abcdef0123")
                .set("keys.k.policy", "p")
                .set("policies.p.buckets", "b")
                .set("policies.p.methods", "read")
                .set(key, region)
        };
        let warned = check(with_region("US-East-1"));
        let expected = format!("warning: {key}: \"US-East-1\" has upper-case letters");
        assert!(
            warned.stderr.contains(&expected) && warned.stderr.contains("write \"us-east-1\""),
            "{warned:?}"
        );
        for region in ["us-east-1", "us-gov-west-1", "RegionOne", "US"] {
            let fine = check(with_region(region));
            assert!(!fine.stderr.contains("upper-case"), "{region}: {fine:?}");
        }
    }
}
