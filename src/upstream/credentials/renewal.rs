//! Renewal of credentials: one task per bucket, ahead of their expiry, with backoff for a failing endpoint.
//!
//! A lease is renewed 300 to 360 s before it expires; the jitter keeps gateways that were started together from
//! asking together. A short lease is renewed at half its time. The authorization token is read again each time,
//! because platforms rotate it. Errors contain the endpoint and the cause, never what the endpoint sent.

use std::time::{Duration, SystemTime};

use actix_web::http::header::{ACCEPT, AUTHORIZATION, HeaderValue, InvalidHeaderValue};
use rand::Rng;
use slog::{Logger, info, warn};
use thiserror::Error;
use tidegate_actors::clock;
use tidegate_config::{ContainerCredentials, SecretFileError};
use tokio::time::sleep;

use super::RenewedCredentials;
use super::document::{self, Lease};
use crate::shortage::{Shortage, record_shortage};
use crate::upstream::connect::dialer::Dialer;
use crate::upstream::exchange::internal_request::{FetchError, InternalClient, internal_get};
use crate::upstream::rules::backoff::Backoff;

/// Timeout of one renewal.
const RESPONSE_TIME_MAX: Duration = Duration::from_secs(5);
const RESPONSE_BYTES_MAX: usize = 64 << 10;
/// How long before its expiry a lease is renewed.
const RENEW_BEFORE_EXPIRY: Duration = Duration::from_secs(300);
const JITTER: Duration = Duration::from_secs(60);
/// When credentials without an expiry are renewed.
const RENEW_WITHOUT_EXPIRY: Duration = Duration::from_secs(900);
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// Why a renewal failed.
#[derive(Debug, Error)]
enum RenewalError {
    #[error("authorization_token_file: {0}")]
    Token(#[from] SecretFileError),
    #[error("authorization_token_file: the token is not valid in a header")]
    TokenHeader(#[from] InvalidHeaderValue),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("the response is not a credential document: {0}")]
    Document(&'static str),
}

impl RenewalError {
    /// The shortage in the gateway that kept it from sending the request.
    fn shortage(&self) -> Option<Shortage> {
        match self {
            Self::Fetch(error) => error.shortage(),
            Self::Token(SecretFileError::Read { source, .. }) => {
                Shortage::of_system(source).inspect(|shortage| record_shortage(*shortage))
            }
            _ => None,
        }
    }
}

/// Renews credentials until the task is aborted.
pub(crate) async fn renewal_loop(
    bucket: String,
    endpoint: ContainerCredentials,
    dialer: Dialer,
    renewed: RenewedCredentials,
    log: Logger,
) {
    let http = InternalClient::new(dialer, RESPONSE_TIME_MAX);
    let url = endpoint.url.url();
    let mut backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX);
    loop {
        let pause = match request_lease(&http, &endpoint).await {
            Ok(Lease { credentials, expires }) => {
                backoff.record_success();
                let pause = renewal_delay(expires, clock::wall(), rand::rng().random());
                info!(log, "credentials renewed"; "bucket" => &bucket, "access_key_id" => &credentials.access_key_id,
                    "next_in_s" => pause.as_secs());
                renewed.publish(credentials, expires);
                pause
            }
            Err(error) => {
                if let Some(shortage) = error.shortage() {
                    // The shortage is logged elsewhere, and the endpoint was not called.
                    renewed.set_shortage(shortage);
                    sleep(PAUSE_MIN).await;
                    continue;
                }
                let pause = backoff.record_failure();
                warn!(log, "credentials cannot be renewed"; "bucket" => &bucket, "url" => &url,
                    "error" => error.to_string(), "failures" => backoff.failures());
                renewed.record_failure(error.to_string(), pause);
                pause
            }
        };
        sleep(pause).await;
    }
}

async fn request_lease(
    http: &InternalClient,
    endpoint: &ContainerCredentials,
) -> Result<Lease, RenewalError> {
    let mut request = internal_get(&endpoint.url)?;
    request.headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    if let Some(file) = &endpoint.authorization_token_file {
        let mut token = HeaderValue::from_str(file.read()?.expose())?;
        token.set_sensitive(true);
        request.headers.insert(AUTHORIZATION, token);
    }
    let (_, body) = http.fetch(request, RESPONSE_BYTES_MAX, RESPONSE_TIME_MAX).await?;
    document::parse(&body).map_err(RenewalError::Document)
}

/// The delay until a lease is renewed. `jitter` is from 0 to 1.
fn renewal_delay(expires: Option<SystemTime>, now: SystemTime, jitter: f64) -> Duration {
    let Some(expires) = expires else { return RENEW_WITHOUT_EXPIRY };
    let left = expires.duration_since(now).unwrap_or_default();
    let ahead = RENEW_BEFORE_EXPIRY + JITTER.mul_f64(jitter);
    if left > ahead * 2 { left - ahead } else { (left / 2).max(PAUSE_MIN) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A2: renewed before it expires, never in a hot loop
    #[test]
    fn a_lease_is_renewed_before_it_ends() {
        let now = clock::wall();
        let pause =
            |left: u64, jitter| renewal_delay(Some(now + Duration::from_secs(left)), now, jitter).as_secs();
        assert_eq!(pause(3600, 0.0), 3300);
        assert_eq!(pause(3600, 1.0), 3240);
        assert_eq!(pause(500, 0.0), 250);
        assert_eq!(renewal_delay(Some(now), now, 0.5), PAUSE_MIN);
        assert_eq!(renewal_delay(Some(now - Duration::from_secs(9)), now, 0.5), PAUSE_MIN);
        assert_eq!(renewal_delay(None, now, 0.5), RENEW_WITHOUT_EXPIRY);
    }
}
