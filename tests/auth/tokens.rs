//! Temporary keys: a session token and an expiry.

use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Signer, s3_error_code, send, send_signed, signed_bucket};
use crate::support::{Gateway, Response, Upstream, get};

const TOKEN: &str = "FwoGZXIvYXdzEBYaD/token+of==";
const TARGET: &str = "/b/k";

fn temporary_key_signer() -> Signer {
    Signer::new("ASIATEMPORARY", "temporary-secret")
}

fn iso8601_in(seconds_ahead: i64) -> String {
    let offset = Duration::from_secs(seconds_ahead.unsigned_abs());
    let now = SystemTime::now();
    let at = if seconds_ahead < 0 { now - offset } else { now + offset };
    OffsetDateTime::from(at).format(&Rfc3339).unwrap()
}

async fn gateway(upstream: &Upstream) -> Gateway {
    let mut builder = signed_bucket(upstream)
        .set("keys.temporary.access_key_id", "ASIATEMPORARY")
        .set("keys.temporary.secret", "temporary-secret")
        .set("keys.temporary.session_token", TOKEN)
        .set("keys.temporary.expires", &iso8601_in(3600))
        .set("keys.temporary.policy", "all");
    for (name, seconds) in [("over", -1), ("ends", 3600)] {
        builder = builder
            .set(&format!("keys.{name}.access_key_id"), name)
            .set(&format!("keys.{name}.secret"), "some-secret")
            .set(&format!("keys.{name}.expires"), &iso8601_in(seconds))
            .set(&format!("keys.{name}.policy"), "all");
    }
    builder.start().await
}

fn status_and_code(answer: &Response) -> (u16, String) {
    (answer.complete_status(), s3_error_code(answer))
}

/// A1, V7: the session token must be the key's, in the header or in a presigned URL; it is never forwarded
#[tokio::test]
async fn a_session_token_must_be_the_keys_own() {
    let upstream = Upstream::ok("x");
    let gateway = gateway(&upstream).await;
    let header = async |token: &[&str]| {
        let more: Vec<_> = token.iter().map(|token| ("x-amz-security-token", *token)).collect();
        let headers = temporary_key_signer().headers("GET", TARGET, "UNSIGNED-PAYLOAD", &more);
        send(&gateway, "GET", TARGET, &headers, None).await
    };
    assert_eq!(header(&[TOKEN]).await.complete_status(), 200);
    assert_eq!(status_and_code(&header(&["another"]).await), (400, "InvalidToken".to_owned()));
    assert_eq!(status_and_code(&header(&[&TOKEN[1..]]).await), (400, "InvalidToken".to_owned()));
    assert_eq!(status_and_code(&header(&[TOKEN, TOKEN]).await), (400, "InvalidToken".to_owned()));
    assert_eq!(status_and_code(&header(&[]).await), (403, "InvalidAccessKeyId".to_owned()));

    let presigned = async |token: &str| {
        let encoded = token.replace('/', "%2F").replace('+', "%2B").replace('=', "%3D");
        let target = format!("{TARGET}?X-Amz-Security-Token={encoded}");
        get(gateway.address(), &temporary_key_signer().presigned("GET", &target, "60")).await
    };
    assert_eq!(presigned(TOKEN).await.complete_status(), 200);
    assert_eq!(status_and_code(&presigned("another").await), (400, "InvalidToken".to_owned()));
    assert_eq!(upstream.count(), 2);
    for seen in upstream.seen() {
        assert_eq!((seen.header("x-amz-security-token"), seen.target.as_str()), (None, TARGET));
    }
    let mut forged = temporary_key_signer();
    forged.secret.push('x');
    let more = [("x-amz-security-token", TOKEN)];
    let headers = forged.headers("GET", TARGET, "UNSIGNED-PAYLOAD", &more);
    let answer = send(&gateway, "GET", TARGET, &headers, None).await;
    assert_eq!(status_and_code(&answer), (403, "SignatureDoesNotMatch".to_owned()));
}

/// A1: an expired key is refused, and only clients with its secret get the expiry as the reason
#[tokio::test]
async fn an_expired_key_is_refused() {
    let upstream = Upstream::ok("x");
    let gateway = gateway(&upstream).await;
    let over = Signer::new("over", "some-secret");
    assert_eq!(
        status_and_code(&send_signed(&gateway, &over, "GET", TARGET).await),
        (400, "ExpiredToken".to_owned())
    );
    let forged = Signer::new("over", "another-secret");
    assert_eq!(
        status_and_code(&send_signed(&gateway, &forged, "GET", TARGET).await),
        (403, "SignatureDoesNotMatch".to_owned())
    );
    assert_eq!(upstream.count(), 0);
    assert_eq!(
        send_signed(&gateway, &Signer::new("ends", "some-secret"), "GET", TARGET).await.complete_status(),
        200
    );
}
