//! Checks of credentials that an upstream may have refused (C3): one task per bucket that can be checked.
//!
//! A client can provoke a response that seems to refuse the gateway's credential. So the gateway sends a request of
//! its own, without any bytes of a client. On a store it lists the bucket with at most one key: the error code either
//! names the credential or not, and `AccessDenied` means that the store accepts the credential. On an API it requests
//! `credential_check_path` with the credential and without: only a path that is refused without a credential proves
//! anything.
//!
//! The task sleeps until the pool has a suspect. Two rounds of checks are at least `CHECK_EVERY` apart, whatever
//! clients do. It does not decide about withdrawal: the pool does.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use slog::{Logger, info, warn};
use tidegate_actors::{CredentialCheckResult, CredentialId, EndpointId, clock};
use tidegate_config::{Addressing, Kind};
use tidegate_s3::target;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::shortage::Shortage;
use crate::upstream::attempt::credential_feedback::is_credential_error_code;
use crate::upstream::bucket::Bucket;
use crate::upstream::exchange::internal_request::InternalClient;
use crate::upstream::health::internal_call::{CallIdentity, InternalCall, InternalResponse, send};

/// Minimum interval between two rounds of checks.
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// Timeout of a check on one endpoint.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
/// Results in metrics and logs.
const ACCEPTED: &str = "accepted";
const REFUSED: &str = "refused";
const INCONCLUSIVE: &str = "inconclusive";

/// Starts the task of a bucket that can check its credentials.
pub(super) fn start(bucket: &Arc<Bucket>, log: &Logger) -> Option<JoinHandle<()>> {
    if !bucket.config.upstream.checks_credentials() {
        return None;
    }
    bucket.metrics.init_credential_checks(&[ACCEPTED, REFUSED, INCONCLUSIVE]);
    Some(actix_rt::spawn(check_loop(Arc::clone(bucket), log.clone())))
}

async fn check_loop(bucket: Arc<Bucket>, log: Logger) {
    let http = InternalClient::new(Arc::clone(&bucket.dialer), CHECK_TIMEOUT);
    loop {
        bucket.pool.wait_for_suspects().await;
        let checks =
            bucket.pool.drain_suspects().into_iter().map(|suspect| check(&http, &bucket, suspect, &log));
        join_all(checks).await;
        sleep(CHECK_EVERY).await;
    }
}

/// Checks one credential and reports the result to the pool.
async fn check(http: &InternalClient, bucket: &Bucket, credential: CredentialId, log: &Logger) {
    let result = loop {
        match check_endpoints(http, bucket, credential).await {
            Ok(result) => break result,
            // No endpoint was called, so the credential stays a suspect.
            Err(_) => sleep(CHECK_EVERY).await,
        }
    };
    let name = bucket.credential(credential).unwrap_or_default();
    let label = match result {
        CredentialCheckResult::Accepted => ACCEPTED,
        CredentialCheckResult::Refused => REFUSED,
        CredentialCheckResult::Inconclusive => INCONCLUSIVE,
    };
    bucket.metrics.count_credential_check(label);
    if result == CredentialCheckResult::Inconclusive {
        warn!(log, "check of a suspect credential was inconclusive"; "bucket" => &bucket.name, "credential" => name);
    } else {
        info!(log, "suspect credential checked"; "bucket" => &bucket.name, "credential" => name,
            "result" => label);
    }
    bucket.pool.report_credential_check(credential, result, clock::now());
}

/// Checks one endpoint after the other. An error if no endpoint decided and one was not called because of a shortage
/// in the gateway.
async fn check_endpoints(
    http: &InternalClient,
    bucket: &Bucket,
    credential: CredentialId,
) -> Result<CredentialCheckResult, Shortage> {
    let (mut result, mut shortage) = (CredentialCheckResult::Inconclusive, None);
    for endpoint in (0..bucket.destinations.len()).map(EndpointId) {
        if bucket.pool.is_draining(endpoint, clock::now()) {
            continue;
        }
        let call = async {
            match bucket.config.kind {
                Kind::S3 => check_store(http, bucket, endpoint, credential).await,
                Kind::Http => check_api(http, bucket, endpoint, credential).await,
            }
        };
        match timeout(CHECK_TIMEOUT, call).await {
            // One endpoint with an old secret must not outweigh the endpoints that accept the credential.
            Ok(Ok(response)) if response != CredentialCheckResult::Inconclusive => result = response,
            Ok(Ok(_)) | Err(_) => {}
            Ok(Err(reason)) => shortage = Some(reason),
        }
        if result == CredentialCheckResult::Accepted {
            break;
        }
    }
    match shortage {
        Some(shortage) if result == CredentialCheckResult::Inconclusive => Err(shortage),
        _ => Ok(result),
    }
}

async fn check_store(
    http: &InternalClient,
    bucket: &Bucket,
    endpoint: EndpointId,
    credential: CredentialId,
) -> Result<CredentialCheckResult, Shortage> {
    let (target, host_bucket) = store_target(bucket);
    let target = format!("{}{target}", bucket.destinations[endpoint.0].path());
    let call = InternalCall {
        bucket,
        endpoint,
        target: &target,
        host_bucket,
        identity: CallIdentity::Credential(credential),
    };
    match send(http, call).await {
        Ok(InternalResponse { status, code }) => Ok(classify_store_response(status, code.as_deref())),
        Err(error) => error.shortage().map_or(Ok(CredentialCheckResult::Inconclusive), Err),
    }
}

/// The target of a store check: the bucket if it has one name, else the list of buckets.
fn store_target(bucket: &Bucket) -> (String, Option<&str>) {
    const QUERY: &str = "list-type=2&max-keys=1";
    let upstream = &bucket.config.upstream;
    let pattern = &bucket.config.pattern;
    let name = upstream.bucket.as_deref().or_else(|| pattern.is_exact().then(|| pattern.as_str()));
    match (name, upstream.addressing) {
        (Some(name), Addressing::Path) => (format!("{}?{QUERY}", target::bucket_path(name)), None),
        (Some(name), Addressing::Virtual) => (format!("/?{QUERY}"), Some(name)),
        (None, _) => ("/".to_owned(), None),
    }
}

fn classify_store_response(status: u16, code: Option<&str>) -> CredentialCheckResult {
    match (status, code) {
        (200..=299 | 404, _) | (403, Some("AccessDenied" | "AllAccessDisabled")) => {
            CredentialCheckResult::Accepted
        }
        // The request has no bytes of a client, so a signature mismatch means a wrong secret.
        (400 | 401 | 403, Some(code))
            if is_credential_error_code(code) || code == "SignatureDoesNotMatch" =>
        {
            CredentialCheckResult::Refused
        }
        _ => CredentialCheckResult::Inconclusive,
    }
}

async fn check_api(
    http: &InternalClient,
    bucket: &Bucket,
    endpoint: EndpointId,
    credential: CredentialId,
) -> Result<CredentialCheckResult, Shortage> {
    let Some(target) = &bucket.config.upstream.credential_check_path else {
        return Ok(CredentialCheckResult::Inconclusive);
    };
    let status = async |identity| {
        let call = InternalCall { bucket, endpoint, target, host_bucket: None, identity };
        match send(http, call).await {
            Ok(response) => Ok(Some(response.status)),
            Err(error) => error.shortage().map_or(Ok(None), Err),
        }
    };
    Ok(classify_api_statuses(
        status(CallIdentity::Credential(credential)).await?,
        status(CallIdentity::Anonymous).await?,
    ))
}

/// Classifies the statuses with the credential and without.
fn classify_api_statuses(with: Option<u16>, without: Option<u16>) -> CredentialCheckResult {
    match (with, without) {
        // A 403 without the credential too may come from a firewall and proves nothing.
        (Some(401), _) | (Some(403), Some(200..=299 | 401)) => CredentialCheckResult::Refused,
        (Some(200..=299), Some(401 | 403)) => CredentialCheckResult::Accepted,
        _ => CredentialCheckResult::Inconclusive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C3: a store's code decides; a response that does not name the credential proves nothing
    #[test]
    fn store_responses_are_classified() {
        for (status, code) in [(200, None), (404, Some("NoSuchBucket")), (403, Some("AccessDenied"))] {
            assert_eq!(
                classify_store_response(status, code),
                CredentialCheckResult::Accepted,
                "{status} {code:?}"
            );
        }
        for code in ["InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"] {
            assert_eq!(classify_store_response(403, Some(code)), CredentialCheckResult::Refused, "{code}");
        }
        for (status, code) in
            [(403, None), (503, Some("SlowDown")), (301, None), (403, Some("RequestTimeTooSkewed"))]
        {
            assert_eq!(
                classify_store_response(status, code),
                CredentialCheckResult::Inconclusive,
                "{status} {code:?}"
            );
        }
    }

    /// C3: a path that is public proves nothing
    #[test]
    fn api_statuses_are_classified() {
        assert_eq!(classify_api_statuses(Some(200), Some(401)), CredentialCheckResult::Accepted);
        assert_eq!(
            classify_api_statuses(Some(200), Some(200)),
            CredentialCheckResult::Inconclusive,
            "a public path"
        );
        assert_eq!(classify_api_statuses(Some(401), Some(401)), CredentialCheckResult::Refused);
        assert_eq!(classify_api_statuses(Some(403), Some(401)), CredentialCheckResult::Refused);
        assert_eq!(classify_api_statuses(Some(403), Some(200)), CredentialCheckResult::Refused);
        assert_eq!(
            classify_api_statuses(Some(403), Some(403)),
            CredentialCheckResult::Inconclusive,
            "may be a firewall"
        );
        for (with, without) in
            [(None, Some(401)), (Some(200), None), (Some(500), Some(401)), (Some(404), None)]
        {
            assert_eq!(
                classify_api_statuses(with, without),
                CredentialCheckResult::Inconclusive,
                "{with:?} {without:?}"
            );
        }
    }
}
