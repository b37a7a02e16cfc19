//! Path-style and virtual-hosted addressing on both sides of the gateway, and the client's bucket name in answers.

use std::net::Ipv4Addr;

use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use s3s::auth::SimpleAuth;
use s3s::host::SingleDomain;
use s3s::service::S3ServiceBuilder;
use tokio::net::TcpListener;

use crate::s3_client;
use crate::support::{Client, Gateway, Response, Scratch, Upstream, UpstreamReply, gateway, head, put};

async fn send_request(gateway: &Gateway, method: &str, host: &str, target: &str) -> Response {
    let mut client = Client::connect(gateway.address()).await;
    client.send(format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
    client.response(method).await
}

fn on_base_domains(builder: gateway::Builder) -> gateway::Builder {
    builder.set("server.base_domains", "s3.test, Localhost")
}

/// V5: a virtual-hosted bucket equals the bucket in the path; the key's bytes are the same
#[tokio::test]
async fn a_host_below_a_base_domain_selects_the_bucket() {
    let (upstream, api) = (Upstream::ok("v"), Upstream::ok("{}"));
    let builder =
        Gateway::builder().bucket("b", &upstream).bucket("other", &upstream).http_bucket("api", &api);
    let gateway = on_base_domains(builder).set("buckets.other.s3.bucket", "real").start().await;
    for (host, target, upstream_target) in [
        ("b.s3.test", "/k//a%2Fb+c~?x=%20", "/b/k//a%2Fb+c~?x=%20"),
        ("B.s3.test", "/k", "404"),
        ("b.S3.TEST:8080", "/", "/b/"),
        ("b.localhost", "/?list-type=2", "/b/?list-type=2"),
        ("other.s3.test", "/b/k", "/real/b/k"),
        ("s3.test", "/b/k", "/b/k"),
        ("b.elsewhere.test", "/other/k", "/real/k"),
    ] {
        let answer = send_request(&gateway, "GET", host, target).await;
        if upstream_target == "404" {
            assert_eq!((answer.complete_status(), answer.reason()), (404, "no_such_bucket"), "{host}");
        } else {
            assert_eq!(answer.complete_status(), 200, "{host}{target}");
            assert_eq!(upstream.last().target, upstream_target, "{host}{target}");
        }
    }
    assert_eq!(send_request(&gateway, "GET", "api.s3.test", "/v1/x?y").await.complete_status(), 200);
    assert_eq!(api.last().target, "/v1/x?y");
    assert!(send_request(&gateway, "GET", "s3.test", "/").await.text().contains("<Name>b</Name>"));
}

/// V5: the upstream request may have the bucket in its host, and then not in its path
#[tokio::test]
async fn the_stores_bucket_may_be_in_its_host() {
    let upstream = Upstream::ok("v");
    let endpoint = format!("localhost:{}", upstream.address().port());
    let gateway = on_base_domains(Gateway::builder().bucket("b", &upstream))
        .set("buckets.b.pattern", "b*")
        .set("buckets.b.s3.endpoints", &format!("http://{endpoint}"))
        .set("buckets.b.s3.addressing", "virtual")
        .start()
        .await;
    for (host, target, bucket, upstream_target) in [
        ("gateway.test", "/b/k//a%2Fb", "b", "/k//a%2Fb"),
        ("gateway.test", "/b-2?uploads", "b-2", "/?uploads"),
        ("b.3.s3.test", "/k", "b.3", "/k"),
    ] {
        assert_eq!(send_request(&gateway, "GET", host, target).await.complete_status(), 200);
        let seen = upstream.last();
        assert_eq!(seen.headers_named("host"), [format!("{bucket}.{endpoint}")]);
        assert_eq!(seen.target, upstream_target);
    }
}

/// A2: virtual-hosted requests are signed as a real server verifies them that accepts no other form
#[tokio::test]
async fn virtual_requests_are_signed_as_they_are_sent() {
    let store = Scratch::new();
    std::fs::create_dir(store.path().join("real")).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let endpoint = format!("localhost:{}", listener.local_addr().unwrap().port());
    let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(store.path()).unwrap());
    builder.set_auth(SimpleAuth::from_single("ID", "secret"));
    builder.set_host(SingleDomain::new(&endpoint).unwrap());
    let service = builder.build();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let served = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service.clone())
                .into_owned();
            tokio::spawn(async move { drop(served.await) });
        }
    });
    let gateway = Gateway::builder()
        .set("buckets.b.auth", "anonymous")
        .set("buckets.b.s3.endpoints", &format!("http://{endpoint}"))
        .set("buckets.b.s3.addressing", "virtual")
        .set("buckets.b.s3.bucket", "real")
        .set("buckets.b.s3.access_key_id", "ID")
        .set("buckets.b.s3.secret_access_key", "secret")
        .start()
        .await;
    let client = s3_client::client(&gateway);
    client.put_object().bucket("b").key("a b/ü+%").body(b"bytes".to_vec().into()).send().await.unwrap();
    assert_eq!(std::fs::read(store.path().join("real/a b/ü+%")).unwrap(), b"bytes");
    let listed = client.list_objects_v2().bucket("b").send().await.unwrap();
    assert_eq!((listed.name(), listed.contents()[0].key()), (Some("b"), Some("a b/ü+%")));
    assert_eq!(s3_client::read(&client, "b", "a b/ü+%").await, b"bytes");
}

/// V5: listings and every step of a multipart upload have the client's name of the bucket
#[tokio::test]
async fn documents_have_the_clients_name() {
    let (origin, _directory) = s3_client::origin();
    let gateway = s3_client::gateway_before(&origin).start().await;
    let client = s3_client::client(&gateway);
    s3_client::put(&client, "alias", "real", b"<Name>real</Name>".to_vec()).await;
    let listed = client.list_objects_v2().bucket("alias").send().await.unwrap();
    assert_eq!((listed.name(), listed.contents()[0].key()), (Some("alias"), Some("real")));
    assert_eq!(client.list_objects().bucket("alias").send().await.unwrap().name(), Some("alias"));
    assert_eq!(s3_client::read(&client, "alias", "real").await, b"<Name>real</Name>");

    let begun = client.create_multipart_upload().bucket("alias").key("big").send().await.unwrap();
    assert_eq!(begun.bucket(), Some("alias"));
    let id = begun.upload_id().unwrap();
    let part = client.upload_part().bucket("alias").key("big").upload_id(id).part_number(1);
    let part = part.body(b"part".to_vec().into()).send().await.unwrap();
    let parts = client.list_parts().bucket("alias").key("big").upload_id(id).send().await.unwrap();
    assert_eq!(parts.bucket(), Some("alias"));
    let part = CompletedPart::builder().part_number(1).set_e_tag(part.e_tag).build();
    let done = client.complete_multipart_upload().bucket("alias").key("big").upload_id(id);
    let done =
        done.multipart_upload(CompletedMultipartUpload::builder().parts(part).build()).send().await.unwrap();
    assert_eq!(done.bucket(), Some("alias"));
    if let Some(location) = done.location() {
        assert_eq!(location, gateway.url("/alias/big"));
    }
}

/// V5, E2: an error and a redirect have the client's name; a HEAD's length and an object's bytes are unchanged
#[tokio::test]
async fn only_documents_of_the_protocol_are_renamed() {
    let error = "<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><BucketName>real</BucketName><Resource>/real/k</Resource></Error>";
    let object = "<ListBucketResult><Name>real</Name></ListBucketResult>";
    let upstream = Upstream::start(move |seen| {
        let xml = |reply: UpstreamReply| reply.header("content-type", "application/xml");
        match (seen.method.as_str(), seen.target.as_str()) {
            (_, "/real/missing") => xml(UpstreamReply::new(404, error)),
            ("PUT", "/real") => UpstreamReply::ok("").header("location", "/real"),
            _ => xml(UpstreamReply::ok(object)),
        }
    });
    let gateway = Gateway::builder().bucket("b", &upstream).set("buckets.b.s3.bucket", "real").start().await;
    let missing = gateway.get("/b/missing").await;
    assert_eq!((missing.complete_status(), missing.text()), (404, error.replace("real", "b")));
    assert_eq!(gateway.get("/b/object.xml").await.text(), object);
    assert_eq!(gateway.get("/b?list-type=2").await.text(), object.replace("real", "b"));
    let head = head(gateway.address(), "/b/object.xml").await;
    assert_eq!(head.header("content-length"), Some(object.len().to_string().as_str()));
    let created = put(gateway.address(), "/b", "").await;
    assert_eq!((created.complete_status(), created.header("location")), (200, Some("/b")));
}

/// P8: a name without an address is reported as such
#[tokio::test]
async fn a_name_without_address_is_a_failure_to_connect() {
    let gateway = Gateway::builder()
        .set("buckets.b.auth", "anonymous")
        .set("buckets.b.s3.endpoints", "http://nowhere.invalid:9000")
        .set("buckets.b.s3.retry.max_attempts", "1")
        .start()
        .await;
    let answer = gateway.get("/b/k").await;
    assert_eq!((answer.complete_status(), answer.reason()), (502, "upstream_dns"));
    let status = answer.header("proxy-status").unwrap();
    assert!(status.contains("error=dns_error"), "{status}");
    // The name is for the operator only.
    assert!(!answer.text().contains("nowhere"), "{}", answer.text());
    let line = gateway.wait_for_access_line(answer.header("x-request-id").unwrap()).await;
    assert!(line["detail"].as_str().unwrap().starts_with("no address for `nowhere.invalid`"), "{line}");
}
