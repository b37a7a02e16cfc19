//! `GET /` with pattern sections, which list the buckets of their stores: contents, access and store failures.

mod failures;
mod pages;
mod tokens;

use crate::auth::signer::Signer;
use crate::support::{Gateway, Latch, Response, Upstream, UpstreamReply, gateway, get, request};

const ID: &str = "AKIDLISTER";
const SECRET: &str = "lister/secret";
const DATE: &str = "2026-01-02T03:04:05.000Z";

/// A store's list of these buckets.
fn list(names: &[&str]) -> String {
    let bucket =
        |name: &&str| format!("<Bucket><Name>{name}</Name><CreationDate>{DATE}</CreationDate></Bucket>");
    let buckets: String = names.iter().map(bucket).collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListAllMyBucketsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
         <Owner><ID>store-owner</ID><DisplayName>store-owner</DisplayName></Owner><Buckets>{buckets}</Buckets>\
         </ListAllMyBucketsResult>"
    )
}

fn xml(document: impl AsRef<[u8]>) -> UpstreamReply {
    UpstreamReply::ok(document).header("content-type", "application/xml")
}

/// A store with these buckets; every object is `x`.
fn store(names: &'static [&'static str]) -> Upstream {
    Upstream::start(
        move |seen| if seen.target.starts_with("/?") { xml(list(names)) } else { UpstreamReply::ok("x") },
    )
}

/// A pattern section that accepts signatures only.
fn section(builder: gateway::Builder, name: &str, pattern: &str, store: &Upstream) -> gateway::Builder {
    builder
        .bucket(name, store)
        .set(&format!("buckets.{name}.pattern"), pattern)
        .set(&format!("buckets.{name}.auth"), "sigv4")
        .set(&format!("buckets.{name}.s3.access_key_id"), "STOREKEY")
        .set(&format!("buckets.{name}.s3.secret_access_key"), "store-secret")
}

/// One key, with a policy for these buckets.
fn with_key(buckets: &str) -> gateway::Builder {
    Gateway::builder()
        .set("keys.lister.access_key_id", ID)
        .set("keys.lister.secret", SECRET)
        .set("keys.lister.policy", "some")
        .set("policies.some.buckets", buckets)
        .set("policies.some.methods", "read,list")
}

/// Sends a signed GET with these extra headers.
async fn send_signed_with(gateway: &Gateway, target: &str, more: &[(&str, &str)]) -> Response {
    let headers = Signer::new(ID, SECRET).headers("GET", target, "UNSIGNED-PAYLOAD", &[]);
    let signed = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let headers: Vec<_> = signed.chain(more.iter().copied()).collect();
    request(gateway.address(), "GET", target, &headers, None).await
}

async fn send_signed(gateway: &Gateway, target: &str) -> Response {
    send_signed_with(gateway, target, &[]).await
}

/// The texts of all elements of this name.
fn texts(answer: &Response, element: &str) -> Vec<String> {
    let (text, tag) = (answer.text(), format!("<{element}>"));
    let parts = text.split(&tag).skip(1);
    parts.map(|part| part.split('<').next().unwrap().to_owned()).collect()
}

fn names(answer: &Response) -> Vec<String> {
    assert_eq!(answer.complete_status(), 200, "{}", answer.text());
    texts(answer, "Name")
}

/// A5, A2: a pattern section lists its store's buckets within pattern and policy; the store is called with the
/// section's credential
#[tokio::test]
async fn a_section_by_pattern_lists_the_buckets_of_its_store() {
    let store = store(&["logs-b", "logs-a", "logs-secret", "other", "logs"]);
    let builder = with_key("logs-a,logs-b,photos").bucket("photos", &store);
    let gateway = section(builder, "logs", "logs-*", &store).start().await;
    let answer = send_signed(&gateway, "/").await;
    assert_eq!(names(&answer), ["logs-a", "logs-b", "photos"]);
    assert_eq!(texts(&answer, "CreationDate")[..2], [DATE, DATE]);
    assert_eq!(texts(&answer, "ID"), ["tidegate"]);
    assert!(!answer.text().contains("store-owner") && !answer.text().contains("BucketRegion"));
    let [seen] = <[_; 1]>::try_from(store.seen()).unwrap();
    assert_eq!((&*seen.method, &*seen.target), ("GET", "/?max-buckets=10000"));
    assert_eq!(seen.header("host"), Some(&*store.address().to_string()));
    assert!(seen.header("authorization").unwrap().contains("Credential=STOREKEY/"), "{seen:?}");
    assert!(!format!("{seen:?}").contains(ID), "{seen:?}");
    let line = gateway.wait_for_access_line(answer.header("x-request-id").unwrap_or_default()).await;
    assert_eq!((&line["attempts"], &line["status"], &line["bucket"]), (&1.into(), &200.into(), &().into()));
    gateway.wait_until_idle().await;
}

/// A5, V12: a store of a tenant lists its buckets without the tenant; clients see the names that they can use
#[tokio::test]
async fn a_tenants_buckets_are_listed_with_the_tenant() {
    let store = store(&["photos", "secret", "acme:videos"]);
    for (pattern, policy, expected) in [
        ("acme:*", "acme:photos,acme:videos", &["acme:photos", "acme:videos"][..]),
        (":*", ":*", &[":photos", ":secret"]),
        ("acme:p*", "*:*", &["acme:photos"]),
        ("*:*", "*:*", &["acme:videos"]),
        ("*", "*,*:*", &["photos", "secret"]),
    ] {
        let gateway = section(with_key(policy), "tenant", pattern, &store).start().await;
        assert_eq!(names(&send_signed(&gateway, "/").await), expected, "{pattern}");
    }
}

/// A2: a key with `upstream = "same"` gets the list of its own account
#[tokio::test]
async fn the_store_is_called_with_the_clients_key() {
    let store = store(&["a"]);
    let gateway =
        section(with_key("*"), "all", "*", &store).set("keys.lister.upstream", "same").start().await;
    assert_eq!(names(&send_signed(&gateway, "/").await), ["a"]);
    assert!(store.last().header("authorization").unwrap().contains(&format!("Credential={ID}/")));
}

/// A5: the lists of several stores are merged; a name is listed once, for the section that it is routed to
#[tokio::test]
async fn the_lists_of_several_stores_are_merged() {
    let every = store(&["zebra", "photos", "logs-x", "alpha", "zebra"]);
    let logs = store(&["logs-2", "logs-1", "alpha", "logs-2"]);
    let builder = with_key("*").bucket("photos", &every).set("buckets.photos.s3.bucket", "real");
    let builder = section(section(builder, "every", "*", &every), "logs", "logs-*", &logs);
    let gateway = builder.start().await;
    assert_eq!(names(&send_signed(&gateway, "/").await), ["alpha", "logs-1", "logs-2", "photos", "zebra"]);
    assert_eq!((every.count(), logs.count()), (1, 1));
}

/// A5: a section with a fixed upstream bucket lists only that bucket, if its name is usable by clients
#[tokio::test]
async fn a_section_with_one_bucket_at_the_store_lists_no_other() {
    let store = store(&["real", "hidden"]);
    let builder = section(with_key("*"), "all", "*", &store).set("buckets.all.s3.bucket", "real");
    let builder = section(builder, "team", "team-*", &store).set("buckets.team.s3.bucket", "hidden");
    let gateway = builder.start().await;
    assert_eq!(names(&send_signed(&gateway, "/").await), ["real"]);
}

/// A4, A5: an unauthenticated client, or one without rights there, causes no call to a store
#[tokio::test]
async fn an_unauthorised_client_causes_no_call() {
    let store = store(&["public-a", "private-a"]);
    let builder = section(with_key("photos"), "public", "public-*", &store)
        .set("buckets.public.auth", "sigv4,anonymous")
        .bucket("photos", &store);
    let builder = section(builder, "private", "private-*", &store);
    let gateway = builder.start().await;
    assert_eq!(names(&get(gateway.address(), "/").await), ["photos"]);
    assert_eq!(
        names(&send_signed(&gateway, "/").await),
        ["photos"],
        "its policy names no bucket of the patterns"
    );
    assert_eq!(store.count(), 0);
    let wrong = Signer::new(ID, "wrong").headers("GET", "/", "UNSIGNED-PAYLOAD", &[]);
    let wrong: Vec<_> = wrong.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let refused = request(gateway.address(), "GET", "/", &wrong, None).await;
    assert_eq!((refused.complete_status(), refused.reason()), (403, "signature_mismatch"));
    assert_eq!(store.count(), 0);
}

/// P3: stores are called concurrently, each through its section's gate
#[tokio::test]
async fn stores_are_called_concurrently() {
    let latch = Latch::new();
    let held = |names: &'static [&'static str]| {
        let latch = latch.clone();
        Upstream::start(move |_| xml(list(names)).when_open(&latch))
    };
    let stores = [held(&["a-1"]), held(&["b-1"])];
    let builder = section(section(with_key("*"), "a", "a-*", &stores[0]), "b", "b-*", &stores[1]);
    let gateway = builder.start().await;
    let both = async {
        stores[0].wait_until_in_flight(1).await;
        stores[1].wait_until_in_flight(1).await;
        latch.open_for_all();
    };
    let (answer, ()) = tokio::join!(send_signed(&gateway, "/"), both);
    assert_eq!(names(&answer), ["a-1", "b-1"]);
    gateway.wait_until_idle().await;
}

/// A2: a ListBuckets call has no bucket, so a virtual-hosted store is called at the endpoint's host
#[tokio::test]
async fn the_list_is_requested_from_the_endpoints_host() {
    let upstream = Upstream::start(|_| xml(list(&["a"])));
    let endpoint = format!("localhost:{}", upstream.address().port());
    let builder = section(with_key("*"), "all", "*", &upstream)
        .set("buckets.all.s3.endpoints", &format!("http://{endpoint}"))
        .set("buckets.all.s3.addressing", "virtual");
    let gateway = builder.start().await;
    assert_eq!(names(&send_signed(&gateway, "/").await), ["a"]);
    assert_eq!(upstream.last().headers_named("host"), [endpoint]);
}
