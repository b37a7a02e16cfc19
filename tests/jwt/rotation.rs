//! JWKS from an issuer's server: fetched once for all requests, fetched again for an unknown key ID, kept while the
//! source fails.

use futures_util::future::join_all;
use serde_json::json;

use super::issuer::Issuer;
use super::{buckets, claims, send_with_token};
use crate::support::{Gateway, Latch, ReplaceableUpstream, Upstream, UpstreamReply};

async fn gateway_of(source: &ReplaceableUpstream, upstream: &Upstream) -> Gateway {
    let url = format!("http://{}/.well-known/jwks.json", source.address());
    buckets(upstream).set("jwt.jwks_url", &url).start().await
}

fn keys(issuers: &[&Issuer]) -> UpstreamReply {
    let keys: Vec<_> = issuers.iter().map(|issuer| issuer.jwk()).collect();
    UpstreamReply::ok(json!({ "keys": keys }).to_string()).header("cache-control", "public, max-age=3600")
}

/// A3: concurrent first requests wait for one fetch
#[tokio::test]
async fn the_first_requests_wait_for_one_fetch() {
    let (upstream, latch, issuer) = (Upstream::ok("x"), Latch::new(), Issuer::rsa().named("one"));
    let source = ReplaceableUpstream::start(keys(&[&issuer]).when_open(&latch));
    let gateway = gateway_of(&source, &upstream).await;
    let token = issuer.token(&claims());
    let pending = join_all((0..20).map(|_| send_with_token(&gateway, "GET", "/b/k", &token)));
    let opening = async {
        source.server.wait_until_in_flight(1).await;
        latch.open_for_all();
    };
    let (answers, ()) = tokio::join!(pending, opening);
    assert!(answers.iter().all(|answer| answer.complete_status() == 200), "{answers:?}");
    let asked = source.server.seen();
    assert_eq!((asked.len(), asked[0].target.as_str()), (1, "/.well-known/jwks.json"));
}

/// A3: an unknown key ID triggers one fetch for all waiting requests; tokens of removed keys are refused, cached or not
#[tokio::test]
async fn keys_rotate_without_a_restart() {
    let upstream = Upstream::ok("x");
    let (old, new) = (Issuer::rsa().named("old"), Issuer::other_rsa().named("new"));
    let source = ReplaceableUpstream::start(keys(&[&old]));
    let gateway = gateway_of(&source, &upstream).await;
    let (before, after) = (old.token(&claims()), new.token(&claims()));
    assert_eq!(send_with_token(&gateway, "GET", "/b/k", &before).await.complete_status(), 200);
    assert_eq!(source.server.count(), 1);

    source.publish(keys(&[&new]));
    let answers = join_all((0..20).map(|_| send_with_token(&gateway, "GET", "/b/k", &after))).await;
    assert!(answers.iter().all(|answer| answer.complete_status() == 200), "{answers:?}");
    assert_eq!(source.server.count(), 2, "one fetch for all");
    let withdrawn = send_with_token(&gateway, "GET", "/b/k", &before).await;
    assert_eq!((withdrawn.complete_status(), withdrawn.reason()), (401, "token_key"));

    for name in ["invented", "another"] {
        let invented = Issuer::p256().named(name).token(&claims());
        assert_eq!(send_with_token(&gateway, "GET", "/b/k", &invented).await.complete_status(), 401);
    }
    assert_eq!(source.server.count(), 2, "invented names do not cause fetches");
    let line = gateway.wait_for_log_line("token keys refreshed", |line| line["keys"] == 1).await;
    assert_eq!(line["next_in_s"], 3600);
}

/// A3: while the source fails, its last keys stay in use
#[tokio::test]
async fn the_last_keys_stay_while_the_source_fails() {
    let upstream = Upstream::ok("x");
    let issuer = Issuer::p256().named("one");
    let source = ReplaceableUpstream::start(keys(&[&issuer]));
    let gateway = gateway_of(&source, &upstream).await;
    assert_eq!(
        send_with_token(&gateway, "GET", "/b/k", &issuer.token(&claims())).await.complete_status(),
        200
    );
    source.publish(UpstreamReply::new(500, "secret-of-the-source"));
    let unknown = Issuer::p256().named("two").token(&claims());
    let refused = send_with_token(&gateway, "GET", "/b/k", &unknown).await;
    assert_eq!((refused.complete_status(), refused.reason()), (401, "token_key"));
    let failed = gateway.wait_for_log_line("token keys cannot be refreshed", |_| true).await;
    assert_eq!(failed["error"], "response status 500");
    let another = issuer.token(&super::with("sub", json!("bob")));
    assert_eq!(
        send_with_token(&gateway, "GET", "/b/k", &another).await.complete_status(),
        200,
        "an uncached token"
    );
    assert!(gateway.log_lines().iter().all(|line| !line.to_string().contains("secret-of-the-source")));
}

/// A3: without any keys a token can be neither accepted nor refused: 503, until the source answers
#[tokio::test]
async fn a_source_that_fails_at_first_is_fetched_again() {
    let upstream = Upstream::ok("x");
    let issuer = Issuer::rsa().named("one");
    let source = ReplaceableUpstream::start(UpstreamReply::ok("<html>"));
    let gateway = gateway_of(&source, &upstream).await;
    let token = issuer.token(&claims());
    let refused = send_with_token(&gateway, "GET", "/b/k", &token).await;
    assert_eq!((refused.complete_status(), refused.reason()), (503, "token_keys"));
    assert!(matches!(refused.retry_after(), Some(1 | 2)), "{refused:?}");
    source.publish(keys(&[&issuer]));
    crate::support::wait_for("the source answers", || async {
        (send_with_token(&gateway, "GET", "/b/k", &token).await.complete_status() == 200).then_some(())
    })
    .await;
    assert_eq!(upstream.count(), 1);
}

/// A3: a redirect is not followed, and an oversized key set is refused
#[tokio::test]
async fn redirects_of_a_source_are_not_followed() {
    let (upstream, elsewhere) = (Upstream::ok("x"), Upstream::ok("{\"keys\":[]}"));
    let target = format!("http://{}/", elsewhere.address());
    let source = ReplaceableUpstream::start(UpstreamReply::status(302).header("location", &target));
    let gateway = gateway_of(&source, &upstream).await;
    let failed = gateway.wait_for_log_line("token keys cannot be refreshed", |_| true).await;
    assert_eq!(failed["error"], "response status 302");
    source.publish(UpstreamReply::ok(" ".repeat(300 << 10)));
    gateway
        .wait_for_log_line("token keys cannot be refreshed", |line| line["error"] != "response status 302")
        .await;
    assert_eq!(elsewhere.count(), 0);
}
