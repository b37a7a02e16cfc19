//! Policies: a key may do exactly the operations that its policy lists.

use super::multi_delete::{deleting_store, results};
use super::{ID, Signer, guest, send, send_signed, signed_bucket, signer, with_guest};
use crate::integrity::{checksums, unsigned_chunks};
use crate::support::client::sha256;
use crate::support::{Gateway, Response, Upstream, get};

/// Buckets `b` and `c`; the guest may read, list and delete below `public/` in `b`.
async fn gateway(upstream: &Upstream) -> Gateway {
    with_guest(signed_bucket(upstream), "public/", "read,list,delete")
        .bucket("c", upstream)
        .set("buckets.c.auth", "sigv4")
        .bucket("open", upstream)
        .start()
        .await
}

/// A5: bucket, prefix and method must all be listed; anything else is 403 without a call upstream
#[tokio::test]
async fn a_policy_grants_only_the_listed_operations() {
    let upstream = Upstream::ok("x");
    let gateway = gateway(&upstream).await;
    for (method, target) in [
        ("GET", "/b/public/k"),
        ("HEAD", "/b/public/k"),
        ("GET", "/b/publi%63/k"),
        ("DELETE", "/b/public/k"),
        ("GET", "/b?list-type=2&prefix=public%2F"),
        ("HEAD", "/b"),
        ("GET", "/b?location="),
    ] {
        assert_eq!(
            send_signed(&gateway, &guest(), method, target).await.complete_status(),
            200,
            "{method} {target}"
        );
    }
    let allowed = upstream.count();
    for (method, target) in [
        ("GET", "/b/k"),
        ("GET", "/b/publi"),
        ("GET", "/b//public/k"),
        ("GET", "/b/secret/public/k"),
        ("PUT", "/b/public/k"),
        ("POST", "/b/public/k?uploads="),
        ("GET", "/b"),
        ("GET", "/b?list-type=2"),
        ("GET", "/b?list-type=2&prefix=publi"),
        ("GET", "/b?list-type=2&prefix=public%2F&prefix=secret%2F"),
        ("GET", "/b?policy="),
        ("PUT", "/b?policy="),
        ("DELETE", "/b"),
        ("POST", "/b"),
        ("GET", "/c/public/k"),
    ] {
        let answer = send_signed(&gateway, &guest(), method, target).await;
        assert_eq!((answer.complete_status(), answer.reason()), (403, "policy_denied"), "{method} {target}");
    }
    assert_eq!(upstream.count(), allowed);
    assert_eq!(
        send_signed(&gateway, &signer(), "PUT", "/c/k").await.complete_status(),
        200,
        "another key may"
    );
}

async fn copy(gateway: &Gateway, signer: &Signer, target: &str, source: &str) -> Response {
    let copy = [("x-amz-copy-source", source)];
    let headers = signer.headers("PUT", target, "UNSIGNED-PAYLOAD", &copy);
    send(gateway, "PUT", target, &headers, None).await
}

/// A5, V3: no dot segment escapes a prefix, in any mode of the path checks
#[tokio::test]
async fn dot_segments_never_escape_a_prefix() {
    let upstream = Upstream::ok("x");
    for mode in ["block", "log", "off"] {
        let gateway = with_guest(signed_bucket(&upstream), "public/", "read,delete")
            .set("buckets.b.injection_patterns", mode)
            .start()
            .await;
        let before = upstream.count();
        for target in
            ["/b/public/../secret", "/b/public/%2e%2e/secret", "/b/public/%252e%252e/x", "/b/public/./k"]
        {
            assert_eq!(
                send_signed(&gateway, &guest(), "GET", target).await.complete_status(),
                400,
                "{mode} {target}"
            );
        }
        let document = "<Delete><Object><Key>public/../secret</Key></Object></Delete>";
        let answer = delete(&gateway, &guest(), document).await;
        assert_eq!((answer.complete_status(), answer.reason()), (200, "policy_denied"), "{mode}");
        assert!(answer.text().contains("<Error><Key>public/../secret</Key>"), "{}", answer.text());
        assert_eq!(upstream.count(), before);
        let passes = if mode == "block" { 400 } else { 200 };
        assert_eq!(
            send_signed(&gateway, &signer(), "GET", "/b/public/../k").await.complete_status(),
            passes,
            "{mode}: no prefixes"
        );
    }
}

/// A5, A1: an `aws-chunked` key list is decoded, verified, and authorised key by key
#[tokio::test]
async fn a_chunked_multi_delete_is_authorised_key_by_key() {
    let upstream = deleting_store();
    let gateway = gateway(&upstream).await;
    let send_list = async |keys: &[&str], checksum: Option<&str>| {
        let objects: String = keys.iter().map(|key| format!("<Object><Key>{key}</Key></Object>")).collect();
        let document = format!("<Delete>{objects}</Delete>");
        let [(crc, right), ..] = checksums(document.as_bytes());
        let line = format!("{crc}:{}\r\n", checksum.unwrap_or(&right));
        let body = unsigned_chunks(document.as_bytes(), 40, &line);
        let length = document.len().to_string();
        let more = [("x-amz-decoded-content-length", length.as_str()), ("x-amz-trailer", crc)];
        let form = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";
        let headers = guest().headers("POST", "/b?delete=", form, &more);
        (document, send(&gateway, "POST", "/b?delete=", &headers, Some(&body)).await)
    };
    let (document, answer) = send_list(&["public/a", "public/b"], None).await;
    assert_eq!(answer.complete_status(), 200, "{}", answer.text());
    assert_eq!(upstream.last().body, document.as_bytes());
    let (_, answer) = send_list(&["public/a", "secret"], None).await;
    assert_eq!(results(&answer), (vec!["public/a".to_owned()], vec!["secret".to_owned()]));
    let (seen, reduced) = (upstream.last(), "<Delete><Object><Key>public/a</Key></Object></Delete>");
    assert_eq!(seen.body, reduced.as_bytes());
    let [(crc, right), ..] = checksums(reduced.as_bytes());
    assert_eq!(
        seen.header(crc),
        Some(right.as_str()),
        "the trailing checksum becomes that of the reduced list"
    );
    assert_eq!((seen.header("x-amz-trailer"), seen.header("x-amz-decoded-content-length")), (None, None));
    let (_, answer) = send_list(&["public/a", "secret"], Some("AAAAAA==")).await;
    assert_eq!(
        (answer.complete_status(), answer.reason()),
        (400, "checksum_mismatch"),
        "the client's list is verified before it is reduced"
    );
    let (_, answer) = send_list(&["public/a"], Some("AAAAAA==")).await;
    assert_eq!((answer.complete_status(), answer.reason()), (400, "checksum_mismatch"));
    let many: Vec<String> = (0..3000).map(|at| format!("public/{at:050}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(
        send_list(&many, None).await.1.complete_status(),
        200,
        "above the limit for buffering other bodies"
    );
    assert_eq!(upstream.count(), 3);
}

/// A5: a copy needs read access to its source
#[tokio::test]
async fn a_copy_needs_read_access_to_its_source() {
    let upstream = Upstream::ok("x");
    let gateway = with_guest(signed_bucket(&upstream), "public/", "read,write").start().await;
    assert_eq!(
        copy(&gateway, &guest(), "/b/public/k", "/b/public/j?versionId=3").await.complete_status(),
        200
    );
    assert_eq!(upstream.seen()[0].header("x-amz-copy-source"), Some("/b/public/j?versionId=3"));
    for source in [
        "/b/secret",
        "b%2Fsecret",
        "/b/public/../secret",
        "/b/public/%2e%2e/secret",
        "/c/public/j",
        "/b%2Fsecret/public/k",
        "nonsense",
    ] {
        let answer = copy(&gateway, &guest(), "/b/public/k", source).await;
        assert_eq!((answer.complete_status(), answer.reason()), (403, "copy_source"), "{source}");
    }
    let hoisted = "/b/public/k?x-amz-copy-source=%2Fb%2Fsecret";
    assert_eq!(send_signed(&gateway, &guest(), "PUT", hoisted).await.reason(), "copy_source");
    assert_eq!(upstream.count(), 1);
    assert_eq!(
        copy(&gateway, &signer(), "/b/k", "/b/secret").await.complete_status(),
        200,
        "another key may"
    );
}

async fn delete(gateway: &Gateway, signer: &Signer, document: &str) -> Response {
    let headers = signer.headers("POST", "/b?delete=", &sha256(document.as_bytes()), &[]);
    send(gateway, "POST", "/b?delete=", &headers, Some(document.as_bytes())).await
}

/// A5: a key list is authorised key by key and forwarded unchanged
#[tokio::test]
async fn every_key_of_a_multi_delete_must_be_allowed() {
    let upstream = deleting_store();
    let gateway = gateway(&upstream).await;
    let list = |keys: &[&str]| {
        let objects: String = keys.iter().map(|key| format!("<Object><Key>{key}</Key></Object>")).collect();
        format!(
            "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{objects}<Quiet>true</Quiet></Delete>"
        )
    };
    let fine = list(&["public/a", "public/b&amp;c"]);
    assert_eq!(delete(&gateway, &guest(), &fine).await.complete_status(), 200);
    assert_eq!(upstream.seen()[0].sha256(), sha256(fine.as_bytes()));
    let denied = delete(&gateway, &guest(), &list(&["public/a", "secret"])).await;
    assert_eq!(results(&denied), (vec![], vec!["secret".to_owned()]), "Quiet asks for errors only");
    assert_eq!(upstream.last().body, list(&["public/a"]).as_bytes());
    // White space before the end of a tag is valid XML; a lenient store parses tags within quotes.
    let blank = list(&["public/a", "secret"]).replace("secret</Key>", "secret</Key >");
    let denied = delete(&gateway, &guest(), &blank).await;
    assert_eq!(results(&denied), (vec![], vec!["secret".to_owned()]));
    assert_eq!(upstream.last().body, list(&["public/a"]).as_bytes());
    let quoted = "<Delete xmlns=\"a><Object><Key>public/a</Key></Object></Delete>";
    assert_eq!(delete(&gateway, &guest(), quoted).await.reason(), "delete_list");
    for odd in ["<Delete><Object><Key>public/<!-- -->a</Key></Object></Delete>", "{}", &"x".repeat(2 << 20)] {
        let answer = delete(&gateway, &guest(), odd).await;
        assert_eq!((answer.complete_status(), answer.reason()), (400, "delete_list"));
    }
    assert_eq!(upstream.count(), 3);
    assert_eq!(
        delete(&gateway, &signer(), &list(&["secret"])).await.complete_status(),
        200,
        "without prefixes the keys are not parsed"
    );
}

/// A4, A5: `GET /` lists the buckets that the client may access
#[tokio::test]
async fn the_bucket_list_has_the_accessible_buckets() {
    let upstream = Upstream::ok("x");
    let gateway = gateway(&upstream).await;
    let names = |answer: &Response| {
        let text = answer.text();
        let names = text.split("<Name>").skip(1).map(|rest| rest.split('<').next().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names(&get(gateway.address(), "/").await), ["open"]);
    assert_eq!(names(&send_signed(&gateway, &guest(), "GET", "/").await), ["b", "open"]);
    assert_eq!(names(&send_signed(&gateway, &signer(), "GET", "/").await), ["b", "c", "open"]);
    let wrong = send_signed(&gateway, &Signer::new(ID, "wrong-secret"), "GET", "/").await;
    assert_eq!((wrong.complete_status(), wrong.reason()), (403, "signature_mismatch"));
}

/// A4, C5: unusable keys are a start-up error, and the line names both config keys
#[test]
fn unusable_keys_are_start_up_errors() {
    let base = "buckets = { b = { auth = [\"sigv4\"], s3 = { endpoints = [\"http://127.0.0.1:1\"] } } }\n\
                [policies.all]\nbuckets = [\"*\"]\nmethods = [\"read\"]\n";
    let directory = crate::support::Scratch::new();
    let secret = directory.path().join("secret");
    std::fs::write(&secret, "0123456789\n").unwrap();
    let open = format!("[keys.a]\nsecret_file = {:?}\npolicy = \"all\"", secret.to_str().unwrap());
    for (more, expected) in [
        ("[keys.a]\nsecret = \"0123456789\"\npolicy = \"al\"", "keys.a.policy: policies.\"al\""),
        ("[keys.a]\nsecret = \"0123456789\"", "keys.a.policy: a key without a policy allows nothing"),
        ("[keys.a]\npolicy = \"all\"", "keys.a.secret: a key needs a secret"),
        ("[keys.a]\nsecret = \"short\"\npolicy = \"all\"", "keys.a.secret: is shorter than 8 characters"),
        (
            "[keys.a]\naccess_key_id = \"b\"\nsecret = \"0123456789\"\npolicy = \"all\"\n\
             [keys.b]\nsecret = \"0123456789\"\npolicy = \"all\"",
            "keys.b: has the same access key ID as keys.a",
        ),
        (
            "[policies.p]\nbuckets = [\"nowhere\"]\nmethods = [\"read\"]",
            "policies.p.buckets: no bucket serves the name \"nowhere\"",
        ),
        ("[policies.p]\nbuckets = [\"b\"]", "policies.p.methods: a policy without it allows nothing"),
        (
            "[buckets.b]\nanonymous = [\"read\"]",
            "buckets.b.anonymous: has no effect: buckets.b.auth does not list anonymous",
        ),
        (&open, "can be read by other users"),
    ] {
        let base = if more.starts_with("[buckets") {
            base.replace("buckets = {", "x = {").replace(
                "x = { b = { auth = [\"sigv4\"], s3 = { endpoints = [\"http://127.0.0.1:1\"] } } }\n",
                "",
            )
        } else {
            base.to_owned()
        };
        let more = if more.starts_with("[buckets") {
            format!("{more}\nauth = [\"sigv4\"]\ns3.endpoints = [\"http://127.0.0.1:1\"]")
        } else {
            more.to_owned()
        };
        let ended = Gateway::builder().config(&format!("{base}{more}\n")).run();
        assert_eq!(ended.code, Some(78), "{more}: {}", ended.stderr);
        assert!(ended.stderr.contains(expected), "{expected}: {}", ended.stderr);
        assert!(!ended.stderr.contains("0123456789"), "no secret is repeated: {}", ended.stderr);
    }
}

/// A4: a bucket that requires signatures without any configured key refuses everything, and the start logs it
#[tokio::test]
async fn a_bucket_without_keys_is_closed_and_logged() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).set("buckets.b.auth", "sigv4").start().await;
    let line =
        gateway.wait_for_log_line("configuration warning", |line| line["key"] == "buckets.b.auth").await;
    assert_eq!(
        line["detail"],
        "lists only sigv4, and no client key is defined: the bucket refuses every request"
    );
    assert_eq!(send_signed(&gateway, &signer(), "GET", "/b/k").await.reason(), "unknown_key");
}

/// A5, V12: for virtual-hosted requests the policy uses the key that the store uses, also in multi-object deletes
#[tokio::test]
async fn policies_apply_to_virtual_hosted_requests() {
    let upstream = Upstream::ok("x");
    // The signer covers `Host: gateway.test`.
    let gateway = with_guest(signed_bucket(&upstream), "public/", "read,list,delete")
        .set("policies.guests.buckets", "gateway")
        .set("server.base_domains", "test")
        .bucket("gateway", &upstream)
        .set("buckets.gateway.auth", "sigv4")
        .set("buckets.gateway.s3.bucket", "real")
        .start()
        .await;
    for (target, upstream_target) in [
        ("/public/k", "/real/public/k"),
        ("/?list-type=2&prefix=public%2F", "/real/?list-type=2&prefix=public%2F"),
    ] {
        assert_eq!(send_signed(&gateway, &guest(), "GET", target).await.complete_status(), 200, "{target}");
        assert_eq!(upstream.last().target, upstream_target);
    }
    let allowed = upstream.count();
    for target in ["/b/public/k", "/gateway/public/k", "/x/public/k", "//public/k", "/?list-type=2"] {
        assert_eq!(send_signed(&gateway, &guest(), "GET", target).await.complete_status(), 403, "{target}");
    }
    let delete = |key: &str| format!("<Delete><Object><Key>{key}</Key></Object></Delete>");
    for (key, reason) in [("public/k", ""), ("secret/k", "policy_denied")] {
        let body = delete(key);
        let hash = sha256(body.as_bytes());
        let headers = guest().headers("POST", "/?delete=", &hash, &[]);
        let answer = send(&gateway, "POST", "/?delete=", &headers, Some(body.as_bytes())).await;
        assert_eq!((answer.complete_status(), answer.reason()), (200, reason), "{key}");
    }
    assert_eq!(upstream.count(), allowed + 1);
}
