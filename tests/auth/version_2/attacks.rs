//! SigV2: guesses, unusual key IDs and mangled signatures.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::signer::Signer;
use super::{ID, builder, get, send_signed, signer};
use crate::auth::fuzz::{answers, decoded_pairs, mangle};
use crate::support::Upstream;

const COUNT: usize = 3000;

/// A8, L8: a wrong signature is charged as a guess; an expired URL and a skewed clock are not
#[tokio::test]
async fn repeated_failures_lock_out_the_address() {
    let upstream = Upstream::ok("x");
    let gateway = builder(&upstream)
        .set("rate_limit.failed_auth.requests_per_second", "0.01")
        .set("rate_limit.failed_auth.burst", "2")
        .start()
        .await;
    let late = Signer { ahead_seconds: -3600, ..signer() };
    let link = late.presigned("GET", "/b/k", &late.expires(60), &[]);
    let long = signer().presigned("GET", "/b/k", &signer().expires(9_999_999), &[]);
    for _ in 0..4 {
        assert_eq!(get(gateway.address(), &link).await.reason(), "presigned_expired");
        assert_eq!(get(gateway.address(), &long).await.reason(), "sigv2_lifetime");
        assert_eq!(send_signed(&gateway, &late, "GET", "/b/k").await.reason(), "clock_skewed");
        assert_eq!(
            send_signed(&gateway, &signer(), "GET", "/b/k?retention").await.reason(),
            "sigv2_uncovered"
        );
        assert_eq!(
            send_signed(&gateway, &signer(), "GET", "/strict/k").await.reason(),
            "signature_not_implemented"
        );
        assert_eq!(send_signed(&gateway, &signer(), "GET", "/b/k").await.complete_status(), 200);
    }
    let guess = Signer::new(ID, "guess");
    assert_eq!(send_signed(&gateway, &guess, "GET", "/b/k").await.reason(), "signature_mismatch");
    let url = guess.presigned("GET", "/b/k", &guess.expires(60), &[]);
    assert_eq!(get(gateway.address(), &url).await.reason(), "signature_mismatch");
    let right = signer().presigned("GET", "/b/k", &signer().expires(60), &[]);
    for target in [url.as_str(), right.as_str(), "/b/k?Signature=a"] {
        let answer = get(gateway.address(), target).await;
        assert_eq!((answer.complete_status(), answer.reason()), (429, "rate_limit_failed_auth"), "{target}");
    }
}

/// A8: an ID may hold any character that the configuration allows
#[tokio::test]
async fn an_id_may_hold_odd_characters() {
    let upstream = Upstream::ok("x");
    let odd = "team:robot+1@example.com";
    let gateway = builder(&upstream).set("keys.reader.access_key_id", odd).start().await;
    let robot = Signer { id: odd.to_owned(), ..signer() };
    assert_eq!(send_signed(&gateway, &robot, "GET", "/b/k").await.complete_status(), 200);
    let url = robot.presigned("GET", "/b/k", &robot.expires(60), &[]);
    assert_eq!(get(gateway.address(), &url).await.complete_status(), 200);
    assert_eq!(send_signed(&gateway, &signer(), "GET", "/b/k").await.reason(), "unknown_key");
}

/// A8, V8: no nearly valid signature is accepted, and none causes an internal error
#[tokio::test]
async fn thousands_of_mangled_signatures_are_refused() {
    let upstream = Upstream::ok("x");
    let gateway = builder(&upstream).start().await;
    let mut random = SmallRng::seed_from_u64(3);
    let target = "/b/k?versionId=1&response-expires=%20x";
    let right = signer().headers("GET", target, &[("x-amz-meta-a", "1 2")]);
    let heads: Vec<_> = (0..COUNT)
        .filter_map(|_| {
            let changed = random.random_range(0..right.len());
            let mut is_same = true;
            let lines = right.iter().enumerate().map(|(at, (name, value))| {
                let mangled = if at == changed { mangle(value, &mut random) } else { value.clone() };
                // Blanks around the pair, and the zone name of a date, have no meaning.
                is_same &= mangled.trim() == value.trim();
                format!("{name}: {mangled}\r\n")
            });
            let lines: String = lines.collect();
            (!is_same).then(|| (target.to_owned(), lines))
        })
        .collect();
    let statuses = answers(&gateway, heads.into_iter()).await;
    assert!(statuses.len() > COUNT * 8 / 10, "{}", statuses.len());
    assert!(statuses.iter().all(|status| matches!(status, 400 | 403 | 431 | 501)), "{statuses:?}");

    let right = signer().presigned("GET", target, &signer().expires(3600), &[]);
    let (path, query) = right.split_once('?').unwrap();
    let heads: Vec<_> = (0..COUNT)
        .filter_map(|_| {
            let mangled = mangle(query, &mut random);
            let target = format!("{path}?{mangled}");
            (decoded_pairs(&mangled) != decoded_pairs(query) && !target.contains(' '))
                .then(|| (target, String::new()))
        })
        .collect();
    let statuses = answers(&gateway, heads.into_iter()).await;
    assert!(statuses.len() > COUNT * 7 / 10, "{}", statuses.len());
    assert!(statuses.iter().all(|status| matches!(status, 400 | 403 | 414 | 501)), "{statuses:?}");
    assert_eq!(upstream.count(), 0);
    assert!(gateway.log_lines().iter().all(|line| line["msg"] != "panic"));
}
