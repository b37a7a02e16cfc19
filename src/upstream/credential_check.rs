//! Whether an upstream still takes a credential that answers to clients raised doubts about (C3): one task per bucket that can ask.
//!
//! A client can provoke an answer that seems to refuse the gateway's credential, so the gateway asks by itself, with a request that
//! holds no client's bytes. Of a store it lists the bucket with one key at most: the error code then names the credential or does
//! not, and `AccessDenied` means that the store knows the credential. Of an API it asks for `credential_check_path`, with the credential
//! and without one: only a path that is refused without a credential proves anything.
//!
//! The task sleeps until the pool marks a suspect. Two rounds of checks are at least `CHECK_EVERY` apart, whatever clients do.
//! Deliberately absent: the decision to withdraw, which is the pool's.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use slog::{Logger, info, warn};
use tidegate_actors::{BucketId, CredentialCheck, CredentialId, EndpointId, clock};
use tidegate_config::{Addressing, Kind};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::router::Bucket;
use crate::s3::target;
use crate::shortage::Shortage;
use crate::upstream::client;
use crate::upstream::identity::names_credential;
use crate::upstream::own_call::{AsWhom, OwnAnswer, OwnCall, get};
use crate::worker::Shared;

/// From one round of checks to the next, at least.
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// How long one endpoint may take for its answer.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
/// Results in metrics and logs.
const ACCEPTED: &str = "accepted";
const REFUSED: &str = "refused";
const INCONCLUSIVE: &str = "inconclusive";

/// Begins to wait for suspects in every bucket that can be asked about its credentials.
pub(crate) fn begin(shared: &Arc<Shared>) -> Vec<JoinHandle<()>> {
    let buckets = shared.router.buckets().iter();
    let checked = buckets.filter(|bucket| bucket.config.upstream.checks_credentials());
    let begin = |bucket: &Bucket| {
        bucket.metrics.show_credential_checks(&[ACCEPTED, REFUSED, INCONCLUSIVE]);
        actix_rt::spawn(check_for_ever(Arc::clone(shared), bucket.id))
    };
    checked.map(begin).collect()
}

async fn check_for_ever(shared: Arc<Shared>, bucket: BucketId) {
    let bucket = shared.router.bucket(bucket);
    let http = client::bare(Arc::clone(&bucket.dialer), CHECK_TIMEOUT);
    loop {
        bucket.pool.suspected().await;
        let checks = bucket.pool.suspects().into_iter().map(|one| check(&http, bucket, one, &shared.log));
        join_all(checks).await;
        sleep(CHECK_EVERY).await;
    }
}

/// Checks one credential and reports the result to the pool.
async fn check(http: &awc::Client, bucket: &Bucket, credential: CredentialId, log: &Logger) {
    let found = loop {
        match ask_all(http, bucket, credential).await {
            Ok(found) => break found,
            // Nobody was asked, and the doubt stands.
            Err(_) => sleep(CHECK_EVERY).await,
        }
    };
    let name = bucket.credential(credential).unwrap_or_default();
    let result = match found {
        CredentialCheck::Accepted => ACCEPTED,
        CredentialCheck::Refused => REFUSED,
        CredentialCheck::Inconclusive => INCONCLUSIVE,
    };
    bucket.metrics.credential_checked(result);
    if found == CredentialCheck::Inconclusive {
        warn!(log, "check of a doubted credential was inconclusive"; "bucket" => &bucket.name, "credential" => name);
    } else {
        info!(log, "doubted credential checked"; "bucket" => &bucket.name, "credential" => name,
            "result" => result);
    }
    bucket.pool.credential_checked(credential, found, clock::now());
}

/// Asks one endpoint after the other. An error if none decided and one could not be asked for a shortage of the gateway's own.
async fn ask_all(
    http: &awc::Client,
    bucket: &Bucket,
    credential: CredentialId,
) -> Result<CredentialCheck, Shortage> {
    let (mut found, mut shortage) = (CredentialCheck::Inconclusive, None);
    for endpoint in (0..bucket.destinations.len()).map(EndpointId) {
        let asking = async {
            match bucket.config.kind {
                Kind::S3 => ask_store(http, bucket, endpoint, credential).await,
                Kind::Http => ask_api(http, bucket, endpoint, credential).await,
            }
        };
        match timeout(CHECK_TIMEOUT, asking).await {
            // One endpoint with an old secret must not decide for those that accept the credential.
            Ok(Ok(answer)) if answer != CredentialCheck::Inconclusive => found = answer,
            Ok(Ok(_)) | Err(_) => {}
            Ok(Err(own)) => shortage = Some(own),
        }
        if found == CredentialCheck::Accepted {
            break;
        }
    }
    match shortage {
        Some(shortage) if found == CredentialCheck::Inconclusive => Err(shortage),
        _ => Ok(found),
    }
}

async fn ask_store(
    http: &awc::Client,
    bucket: &Bucket,
    endpoint: EndpointId,
    credential: CredentialId,
) -> Result<CredentialCheck, Shortage> {
    let (target, host_bucket) = listing(bucket);
    let target = format!("{}{target}", bucket.destinations[endpoint.0].path());
    let call = OwnCall { bucket, endpoint, target: &target, host_bucket, as_whom: AsWhom::One(credential) };
    match get(http, call).await {
        Ok(OwnAnswer { status, code }) => Ok(of_store(status, code.as_deref())),
        Err(error) => error.shortage().map_or(Ok(CredentialCheck::Inconclusive), Err),
    }
}

/// What a store is asked for: the bucket where it has one name, else the list of buckets.
fn listing(bucket: &Bucket) -> (String, Option<&str>) {
    const QUERY: &str = "list-type=2&max-keys=1";
    let upstream = &bucket.config.upstream;
    let pattern = &bucket.config.pattern;
    let name = upstream.bucket.as_deref().or_else(|| pattern.is_exact().then(|| pattern.as_str()));
    match (name, upstream.addressing) {
        (Some(name), Addressing::Path) => (format!("{}?{QUERY}", target::path_of(name)), None),
        (Some(name), Addressing::Virtual) => (format!("/?{QUERY}"), Some(name)),
        (None, _) => ("/".to_owned(), None),
    }
}

fn of_store(status: u16, code: Option<&str>) -> CredentialCheck {
    match (status, code) {
        (200..=299 | 404, _) | (403, Some("AccessDenied" | "AllAccessDisabled")) => CredentialCheck::Accepted,
        // The request holds no client's bytes, so a signature that does not match is the secret's fault.
        (400 | 401 | 403, Some(code)) if names_credential(code) || code == "SignatureDoesNotMatch" => {
            CredentialCheck::Refused
        }
        _ => CredentialCheck::Inconclusive,
    }
}

async fn ask_api(
    http: &awc::Client,
    bucket: &Bucket,
    endpoint: EndpointId,
    credential: CredentialId,
) -> Result<CredentialCheck, Shortage> {
    let Some(target) = &bucket.config.upstream.credential_check_path else {
        return Ok(CredentialCheck::Inconclusive);
    };
    let status = async |as_whom| {
        let call = OwnCall { bucket, endpoint, target, host_bucket: None, as_whom };
        match get(http, call).await {
            Ok(answer) => Ok(Some(answer.status)),
            Err(error) => error.shortage().map_or(Ok(None), Err),
        }
    };
    Ok(of_api(status(AsWhom::One(credential)).await?, status(AsWhom::Nobody).await?))
}

/// By the statuses with the credential and without one.
fn of_api(with: Option<u16>, without: Option<u16>) -> CredentialCheck {
    match (with, without) {
        // A 403 that comes without the credential too may be a firewall's, and proves nothing.
        (Some(401), _) | (Some(403), Some(200..=299 | 401)) => CredentialCheck::Refused,
        (Some(200..=299), Some(401 | 403)) => CredentialCheck::Accepted,
        _ => CredentialCheck::Inconclusive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C3: a store's code decides; what says nothing of the credential proves nothing
    #[test]
    fn what_a_stores_answer_says() {
        for (status, code) in [(200, None), (404, Some("NoSuchBucket")), (403, Some("AccessDenied"))] {
            assert_eq!(of_store(status, code), CredentialCheck::Accepted, "{status} {code:?}");
        }
        for code in ["InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"] {
            assert_eq!(of_store(403, Some(code)), CredentialCheck::Refused, "{code}");
        }
        for (status, code) in
            [(403, None), (503, Some("SlowDown")), (301, None), (403, Some("RequestTimeTooSkewed"))]
        {
            assert_eq!(of_store(status, code), CredentialCheck::Inconclusive, "{status} {code:?}");
        }
    }

    /// C3: a path that anybody may read proves nothing
    #[test]
    fn what_an_apis_answers_say() {
        assert_eq!(of_api(Some(200), Some(401)), CredentialCheck::Accepted);
        assert_eq!(of_api(Some(200), Some(200)), CredentialCheck::Inconclusive, "a public path");
        assert_eq!(of_api(Some(401), Some(401)), CredentialCheck::Refused);
        assert_eq!(of_api(Some(403), Some(401)), CredentialCheck::Refused);
        assert_eq!(of_api(Some(403), Some(200)), CredentialCheck::Refused);
        assert_eq!(of_api(Some(403), Some(403)), CredentialCheck::Inconclusive, "a firewall's");
        for (with, without) in
            [(None, Some(401)), (Some(200), None), (Some(500), Some(401)), (Some(404), None)]
        {
            assert_eq!(of_api(with, without), CredentialCheck::Inconclusive, "{with:?} {without:?}");
        }
    }
}
