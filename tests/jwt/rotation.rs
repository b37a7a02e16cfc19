//! Sets of keys from an issuer's own server: fetched once for all, renewed when a token names a new key, kept while it fails.

use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use serde_json::json;

use super::issuer::Issuer;
use super::{ask, buckets, claims};
use crate::support::{Gateway, Latch, Upstream, UpstreamReply};

/// A server whose answer can be changed.
struct Source {
    server: Upstream,
    act: Arc<Mutex<UpstreamReply>>,
}

impl Source {
    fn start(act: UpstreamReply) -> Self {
        let act = Arc::new(Mutex::new(act));
        let current = Arc::clone(&act);
        Self { server: Upstream::start(move |_| current.lock().unwrap().clone()), act }
    }

    fn publish(&self, act: UpstreamReply) {
        *self.act.lock().unwrap() = act;
    }

    async fn gateway(&self, upstream: &Upstream) -> Gateway {
        let url = format!("http://{}/.well-known/jwks.json", self.server.address());
        buckets(upstream).set("jwt.jwks_url", &url).start().await
    }
}

fn keys(issuers: &[&Issuer]) -> UpstreamReply {
    let keys: Vec<_> = issuers.iter().map(|issuer| issuer.jwk()).collect();
    UpstreamReply::ok(json!({ "keys": keys }).to_string()).header("cache-control", "public, max-age=3600")
}

/// A3: many first requests wait for one fetch
#[tokio::test]
async fn the_first_requests_wait_for_one_fetch() {
    let (upstream, latch, issuer) = (Upstream::ok("x"), Latch::new(), Issuer::rsa().named("one"));
    let source = Source::start(keys(&[&issuer]).when_open(&latch));
    let gateway = source.gateway(&upstream).await;
    let token = issuer.token(&claims());
    let asking = join_all((0..20).map(|_| ask(&gateway, "GET", "/b/k", &token)));
    let opening = async {
        source.server.wait_until_in_flight(1).await;
        latch.open_for_all();
    };
    let (answers, ()) = tokio::join!(asking, opening);
    assert!(answers.iter().all(|answer| answer.complete_status() == 200), "{answers:?}");
    let asked = source.server.seen();
    assert_eq!((asked.len(), asked[0].target.as_str()), (1, "/.well-known/jwks.json"));
}

/// A3: a token that names a new key has the set fetched again, once for all who ask; what is no longer in it is no longer
/// believed, remembered or not
#[tokio::test]
async fn keys_rotate_without_a_restart() {
    let upstream = Upstream::ok("x");
    let (old, new) = (Issuer::rsa().named("old"), Issuer::other_rsa().named("new"));
    let source = Source::start(keys(&[&old]));
    let gateway = source.gateway(&upstream).await;
    let (before, after) = (old.token(&claims()), new.token(&claims()));
    assert_eq!(ask(&gateway, "GET", "/b/k", &before).await.complete_status(), 200);
    assert_eq!(source.server.count(), 1);

    source.publish(keys(&[&new]));
    let answers = join_all((0..20).map(|_| ask(&gateway, "GET", "/b/k", &after))).await;
    assert!(answers.iter().all(|answer| answer.complete_status() == 200), "{answers:?}");
    assert_eq!(source.server.count(), 2, "one fetch for all");
    let withdrawn = ask(&gateway, "GET", "/b/k", &before).await;
    assert_eq!((withdrawn.complete_status(), withdrawn.reason()), (401, "token_key"));

    for name in ["invented", "another"] {
        let invented = Issuer::p256().named(name).token(&claims());
        assert_eq!(ask(&gateway, "GET", "/b/k", &invented).await.complete_status(), 401);
    }
    assert_eq!(source.server.count(), 2, "invented names do not cause fetches");
    let line = gateway.wait_for_log_line("token keys refreshed", |line| line["keys"] == 1).await;
    assert_eq!(line["next_in_s"], 3600);
}

/// A3: a source that fails leaves the keys that it gave last
#[tokio::test]
async fn old_keys_hold_while_the_source_fails() {
    let upstream = Upstream::ok("x");
    let issuer = Issuer::p256().named("one");
    let source = Source::start(keys(&[&issuer]));
    let gateway = source.gateway(&upstream).await;
    assert_eq!(ask(&gateway, "GET", "/b/k", &issuer.token(&claims())).await.complete_status(), 200);
    source.publish(UpstreamReply::new(500, "secret-of-the-source"));
    let unknown = Issuer::p256().named("two").token(&claims());
    let refused = ask(&gateway, "GET", "/b/k", &unknown).await;
    assert_eq!((refused.complete_status(), refused.reason()), (401, "token_key"));
    let failed = gateway.wait_for_log_line("token keys cannot be refreshed", |_| true).await;
    assert_eq!(failed["error"], "it answered 500");
    let another = issuer.token(&super::with("sub", json!("bob")));
    assert_eq!(
        ask(&gateway, "GET", "/b/k", &another).await.complete_status(),
        200,
        "one that nobody remembers"
    );
    assert!(gateway.log_lines().iter().all(|line| !line.to_string().contains("secret-of-the-source")));
}

/// A3: without any keys a token can be neither believed nor refused: 503, until the source answers
#[tokio::test]
async fn a_source_that_fails_from_the_start_is_asked_again() {
    let upstream = Upstream::ok("x");
    let issuer = Issuer::rsa().named("one");
    let source = Source::start(UpstreamReply::ok("<html>"));
    let gateway = source.gateway(&upstream).await;
    let token = issuer.token(&claims());
    let refused = ask(&gateway, "GET", "/b/k", &token).await;
    assert_eq!((refused.complete_status(), refused.reason()), (503, "token_keys"));
    assert!(matches!(refused.retry_after(), Some(1 | 2)), "{refused:?}");
    source.publish(keys(&[&issuer]));
    crate::support::wait_for("the source answers", || async {
        (ask(&gateway, "GET", "/b/k", &token).await.complete_status() == 200).then_some(())
    })
    .await;
    assert_eq!(upstream.count(), 1);
}

/// A3: a redirect is not followed, and a set that is too long is none
#[tokio::test]
async fn a_source_cannot_point_elsewhere() {
    let (upstream, elsewhere) = (Upstream::ok("x"), Upstream::ok("{\"keys\":[]}"));
    let target = format!("http://{}/", elsewhere.address());
    let source = Source::start(UpstreamReply::status(302).header("location", &target));
    let gateway = source.gateway(&upstream).await;
    let failed = gateway.wait_for_log_line("token keys cannot be refreshed", |_| true).await;
    assert_eq!(failed["error"], "response status 302");
    source.publish(UpstreamReply::ok(" ".repeat(300 << 10)));
    gateway
        .wait_for_log_line("token keys cannot be refreshed", |line| line["error"] != "response status 302")
        .await;
    assert_eq!(elsewhere.count(), 0);
}
