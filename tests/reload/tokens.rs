//! Tokens of clients after a reload: the key that verifies them, and the policies that they name.

use super::apply;
use crate::jwt::issuer::{Issuer, SECRET};
use crate::jwt::{claims, send_with_token};
use crate::support::{Gateway, Upstream};

const OTHER: &str = "another-secret-that-has-thirty-two-characters";

/// Bucket `b` for tokens with this secret. `more` is another part of the configuration.
fn text(upstream: &Upstream, secret: &str, more: &str) -> String {
    format!(
        "[buckets.b]\nauth = [\"jwt\"]\n[buckets.b.s3]\nendpoints = [\"http://{}\"]\n\
         [jwt]\nissuer = \"https://issuer.test\"\naudience = [\"tidegate\"]\nsecret = \"{secret}\"\n{more}",
        upstream.address()
    )
}

/// G3, A3: a cached token is refused at once when the key that verifies it has changed, and stays accepted over other changes
#[tokio::test]
async fn a_changed_key_refuses_cached_tokens() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().config(&text(&upstream, SECRET, "")).start().await;
    let [old, new] = [SECRET, OTHER].map(|secret| Issuer::with_secret(secret).token(&claims()));
    let get = async |token: &str| {
        let answer = send_with_token(&gateway, "GET", "/b/k", token).await;
        (answer.complete_status(), answer.reason().to_owned())
    };
    let (ok, refused) = ((200, String::new()), (401, "token_signature".to_owned()));
    for _ in 0..4 {
        assert_eq!(get(&old).await, ok);
    }
    apply(&gateway, &text(&upstream, SECRET, "[server]\nkeep_alive = 7\n")).await;
    assert_eq!((get(&old).await, get(&new).await), (ok.clone(), refused.clone()));
    apply(&gateway, &text(&upstream, OTHER, "")).await;
    for _ in 0..4 {
        assert_eq!((get(&old).await, get(&new).await), (refused.clone(), ok.clone()));
    }
}
