//! Parameters of the bucket list, and pagination on both sides of the gateway.

use super::{list, names, section, send_signed, store, texts, with_key, xml};
use crate::support::Upstream;

/// The gateway's pages join to the whole list; names of stores and sections are in one order
#[tokio::test]
async fn the_gateways_pages_join_to_the_whole() {
    let store = store(&["e", "c", "a", "g"]);
    let builder = section(with_key("*"), "all", "*", &store);
    let gateway = builder.bucket("b", &store).bucket("f", &store).start().await;
    let whole = names(&send_signed(&gateway, "/").await);
    assert_eq!(whole, ["a", "b", "c", "e", "f", "g"]);
    for size in [1, 2, 4, 6, 100] {
        let mut joined = Vec::new();
        let mut target = format!("/?max-buckets={size}");
        loop {
            let page = send_signed(&gateway, &target).await;
            let listed = names(&page);
            assert!(listed.len() <= size);
            joined.extend(listed);
            let Some(token) = texts(&page, "ContinuationToken").pop() else { break };
            target = format!("/?continuation-token={token}&max-buckets={size}");
        }
        assert_eq!(joined, whole, "pages of {size}");
    }
}

/// A9: `prefix` and `bucket-region` filter the list, and the buckets then have a region
#[tokio::test]
async fn prefix_and_region_narrow_the_list() {
    let store = store(&["logs-1", "logs-2", "photos-1"]);
    let gateway = section(with_key("*"), "all", "*", &store).bucket("lobby", &store).start().await;
    let narrowed = send_signed(&gateway, "/?bucket-region=us-east-1&prefix=lo").await;
    assert_eq!(names(&narrowed), ["lobby", "logs-1", "logs-2"]);
    assert_eq!(texts(&narrowed, "BucketRegion"), ["us-east-1"; 3]);
    assert_eq!(texts(&narrowed, "Prefix"), ["lo"]);
    assert_eq!(names(&send_signed(&gateway, "/?prefix=logs-2").await), ["logs-2"]);
    assert_eq!(names(&send_signed(&gateway, "/?prefix=%3CName%3E").await), [""; 0]);
    assert_eq!(store.count(), 3);
    assert_eq!(names(&send_signed(&gateway, "/?bucket-region=mars-1").await), [""; 0]);
    assert_eq!(store.count(), 3, "the gateway has no bucket there, so no store is called");
}

/// A9: each bucket has the region of its section, as in its other answers, and `bucket-region` compares with it
#[tokio::test]
async fn a_bucket_is_listed_with_the_region_of_its_section() {
    let here = store(&["here-1"]);
    let there = store(&["there-1"]);
    let builder = section(section(with_key("*"), "here", "here-*", &here), "there", "there-*", &there);
    let gateway = builder
        .set("buckets.there.client_regions", "eu-north-1,eu-west-1")
        .bucket("photos", &there)
        .set("buckets.photos.auth", "sigv4")
        .set("buckets.photos.client_regions", "eu-west-1")
        .set("s3.region", "eu-central-1")
        .start()
        .await;
    let all = send_signed(&gateway, "/?max-buckets=10").await;
    assert_eq!(names(&all), ["here-1", "photos", "there-1"]);
    assert_eq!(texts(&all, "BucketRegion"), ["eu-central-1", "eu-west-1", "eu-north-1"]);
    assert_eq!((here.count(), there.count()), (1, 1));
    for (region, expected, calls) in [
        ("eu-central-1", "here-1", (2, 1)),
        ("eu-north-1", "there-1", (2, 2)),
        ("eu-west-1", "photos", (2, 2)),
    ] {
        let narrowed = send_signed(&gateway, &format!("/?bucket-region={region}")).await;
        assert_eq!(names(&narrowed), [expected]);
        assert_eq!(texts(&narrowed, "BucketRegion"), [region]);
        assert_eq!((here.count(), there.count()), calls, "{region}");
    }
}

/// An invalid parameter value is refused before a store is called
#[tokio::test]
async fn a_forged_token_is_refused() {
    let store = store(&["a", "b"]);
    let gateway = section(with_key("*"), "all", "*", &store).start().await;
    let token = texts(&send_signed(&gateway, "/?max-buckets=1").await, "ContinuationToken").pop().unwrap();
    assert_eq!(names(&send_signed(&gateway, &format!("/?continuation-token={token}")).await), ["b"]);
    let forged = token.replace(&token[..1], if token.starts_with('A') { "B" } else { "A" });
    let asked = store.count();
    for query in [
        format!("continuation-token={forged}"),
        format!("continuation-token={token}AA"),
        format!("continuation-token={}", &token[1..]),
        format!("continuation-token={token}&continuation-token={token}"),
        "continuation-token=YQ".to_owned(),
        format!("continuation-token={}", "A".repeat(1500)),
        "max-buckets=0".to_owned(),
        "max-buckets=10001".to_owned(),
        "max-buckets=many".to_owned(),
        "prefix=a&prefix=b".to_owned(),
    ] {
        let answer = send_signed(&gateway, &format!("/?{query}")).await;
        assert_eq!((answer.complete_status(), answer.reason()), (400, "bucket_list_parameter"), "{query}");
        assert_eq!(texts(&answer, "Code"), ["InvalidArgument"]);
    }
    assert_eq!(store.count(), asked);
}

/// All pages of a store are requested, with the store's continuation token encoded
#[tokio::test]
async fn the_stores_pages_are_followed() {
    let store = Upstream::start(|seen| {
        let page = |names, token: &str| {
            let token = format!("<ContinuationToken>{token}</ContinuationToken></ListAllMyBucketsResult>");
            xml(list(names).replace("</ListAllMyBucketsResult>", &token))
        };
        match seen.target.split_once("continuation-token=").map(|(_, token)| token) {
            None => page(&["a", "b"], "1/&amp;+="),
            Some("1%2F%26%2B%3D") => page(&["c"], "2"),
            Some("2") => xml(list(&["d"])),
            Some(_) => xml("<Error/>"),
        }
    });
    let gateway = section(with_key("*"), "all", "*", &store).start().await;
    assert_eq!(names(&send_signed(&gateway, "/").await), ["a", "b", "c", "d"]);
    assert_eq!(store.count(), 3);
    gateway.wait_until_idle().await;
}
