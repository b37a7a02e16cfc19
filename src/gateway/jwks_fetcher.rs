//! Fetches the JWK set (A3) in one background task, so two requests never cause the same fetch.
//!
//! A set is fetched again when its `max-age` is over, but at most once a minute and at least once a day, and when a token names a key that
//! is not in the set. After a failure the task retries with exponential backoff, and the last set stays valid, so a failure of the source
//! does not lock clients out. Redirects are not followed. The URL comes from the configuration, never from a token.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{ACCEPT, CACHE_CONTROL, HeaderMap, HeaderValue};
use slog::{Logger, info, warn};
use thiserror::Error;
use tidegate_actors::clock;
use tidegate_config::{Config, Endpoint, JwksSource, UpstreamConfig};
use tokio::time::sleep;

use crate::auth::jwt::{KeySet, SharedKeySet, TokenKeysError, TokenVerifier, parse_jwks};
use crate::shortage::{Shortage, record_shortage};
use crate::upstream::connect::dialer::Dialer;
use crate::upstream::connect::tls::TlsError;
use crate::upstream::exchange::internal_request::{FetchError, InternalClient, internal_get};
use crate::upstream::rules::backoff::Backoff;
use crate::upstream::rules::refresh_health::RefreshHealth;

/// The timeout of one response.
const RESPONSE_TIME_MAX: Duration = Duration::from_secs(5);
const DOCUMENT_BYTES_MAX: usize = 256 << 10;
/// When a set without `max-age` is fetched again.
const REFRESH_INTERVAL: Duration = Duration::from_secs(300);
const REFRESH_INTERVAL_MIN: Duration = Duration::from_secs(60);
const REFRESH_INTERVAL_MAX: Duration = Duration::from_secs(24 * 3600);
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// Why the set could not be fetched.
#[derive(Debug, Error)]
enum KeySetError {
    #[error("cannot read the file: {0}")]
    Read(#[from] io::Error),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("not a JWK set: {0}")]
    Document(&'static str),
    #[error("larger than {DOCUMENT_BYTES_MAX} bytes")]
    TooLarge,
}

impl KeySetError {
    /// The gateway's own resource shortage, if that caused the failure.
    fn shortage(&self) -> Option<Shortage> {
        match self {
            Self::Fetch(error) => error.shortage(),
            Self::Read(error) => Shortage::of_system(error).inspect(|shortage| record_shortage(*shortage)),
            _ => None,
        }
    }
}

enum KeySource {
    File(PathBuf),
    /// With the dialer, from which the task builds an HTTP client on its own thread.
    Url(Box<(Endpoint, Dialer)>),
}

/// The task that fetches the keys.
pub(super) struct JwksFetcher {
    source: KeySource,
    keys: SharedKeySet,
    health: Arc<RefreshHealth>,
}

/// A set, the number of its skipped keys, and the time until the next fetch.
type FetchedKeys = (KeySet, usize, Duration);

/// Why the gateway cannot verify tokens.
#[derive(Debug, Error)]
pub enum TokenSourceError {
    /// A key of the configuration cannot be used.
    #[error(transparent)]
    Keys(#[from] TokenKeysError),
    /// The JWK set file cannot be used.
    #[error("jwks_file: {0}")]
    File(String),
    /// TLS for the URL of the JWK set cannot be set up.
    #[error(transparent)]
    Tls(TlsError),
}

/// The verifier of the configuration, and the task that refreshes its keys; none if the configuration has no `[jwt]`.
///
/// # Errors
/// A key or the JWK set file of the configuration cannot be used.
pub(super) fn token_verifier(
    config: &Config,
) -> Result<Option<(TokenVerifier, Option<JwksFetcher>)>, TokenSourceError> {
    let Some(jwt) = &config.jwt else { return Ok(None) };
    let verifier = TokenVerifier::new(jwt)?;
    let fetcher = match &jwt.jwks {
        None => None,
        Some(source) => Some(JwksFetcher::new(source, config, verifier.keys())?),
    };
    Ok(Some((verifier, fetcher)))
}

impl JwksFetcher {
    /// Reads a file immediately, so that an invalid file makes the start fail.
    fn new(source: &JwksSource, config: &Config, keys: SharedKeySet) -> Result<Self, TokenSourceError> {
        let source = match source {
            JwksSource::File(path) => {
                let (set, _, _) = read_file(path)
                    .map_err(|error| TokenSourceError::File(format!("`{}`: {error}", path.display())))?;
                if set.is_empty() {
                    let message = format!("`{}` has no key for RS256 or ES256", path.display());
                    return Err(TokenSourceError::File(message));
                }
                keys.finish_refresh(Some(set));
                KeySource::File(path.clone())
            }
            JwksSource::Url(endpoint) => {
                let tls = config.jwt.as_ref().map(|jwt| jwt.tls.clone()).unwrap_or_default();
                let upstream = UpstreamConfig { tls, ..UpstreamConfig::default() };
                let dialer =
                    Dialer::new([endpoint], &upstream, &config.dns).map_err(TokenSourceError::Tls)?;
                KeySource::Url(Box::new((endpoint.clone(), dialer)))
            }
        };
        Ok(Self { source, keys, health: Arc::default() })
    }

    /// Whether the keys can be fetched.
    pub(super) fn health(&self) -> Arc<RefreshHealth> {
        Arc::clone(&self.health)
    }

    /// Runs the task. It never ends.
    pub(super) async fn run(self, log: Logger) {
        let Self { source, keys, health } = self;
        let refresh = KeyRefresh { keys: &keys, health: &health, log: &log };
        match source {
            KeySource::File(path) => {
                wait_until_due(&keys, REFRESH_INTERVAL_MIN).await;
                let from = path.display().to_string();
                refresh.run(&from, async || read_file(&path)).await;
            }
            KeySource::Url(url) => {
                let (endpoint, dialer) = *url;
                let http = InternalClient::new(dialer, RESPONSE_TIME_MAX);
                refresh.run(&endpoint.url(), async || fetch_url(&http, &endpoint).await).await;
            }
        }
    }
}

/// Sleeps until the next refresh is due or requested.
async fn wait_until_due(keys: &SharedKeySet, pause: Duration) {
    tokio::select! {
        () = sleep(pause) => {}
        () = keys.refresh_requested() => {}
    }
}

/// Where the results of fetches go.
struct KeyRefresh<'a> {
    keys: &'a SharedKeySet,
    health: &'a RefreshHealth,
    log: &'a Logger,
}

impl KeyRefresh<'_> {
    /// Refreshes the keys for ever.
    async fn run(&self, from: &str, fetch: impl AsyncFn() -> Result<FetchedKeys, KeySetError>) {
        let Self { keys, health, log } = *self;
        let mut backoff = Backoff::new(BACKOFF_MIN, BACKOFF_MAX);
        loop {
            keys.begin_refresh();
            let pause = match fetch().await {
                Ok((set, skipped, interval)) => {
                    backoff.record_success();
                    info!(log, "token keys refreshed"; "from" => from, "keys" => set.len(), "passed_over" => skipped,
                    "next_in_s" => interval.as_secs());
                    keys.finish_refresh(Some(set));
                    health.record_success();
                    interval
                }
                // The shortage is logged elsewhere, and no request was sent to the source.
                Err(error) if error.shortage().is_some() => {
                    keys.finish_refresh(None);
                    BACKOFF_MIN
                }
                Err(error) => {
                    let pause = backoff.record_failure();
                    warn!(log, "token keys cannot be refreshed"; "from" => from, "error" => error.to_string(),
                    "failures" => backoff.failures());
                    keys.finish_refresh(None);
                    health.record_failure(format!("{from}: {error}"), Some(pause), clock::now());
                    pause
                }
            };
            wait_until_due(keys, pause).await;
        }
    }
}

fn read_file(path: &Path) -> Result<FetchedKeys, KeySetError> {
    use io::Read as _;
    let mut bytes = Vec::new();
    tidegate_config::open_regular(path)?.take(DOCUMENT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > DOCUMENT_BYTES_MAX {
        return Err(KeySetError::TooLarge);
    }
    let (keys, skipped) = parse_jwks(&bytes).map_err(KeySetError::Document)?;
    Ok((keys, skipped, REFRESH_INTERVAL_MIN))
}

async fn fetch_url(http: &InternalClient, endpoint: &Endpoint) -> Result<FetchedKeys, KeySetError> {
    let mut request = internal_get(endpoint)?;
    request.headers.insert(ACCEPT, HeaderValue::from_static("application/jwk-set+json, application/json"));
    let (headers, body) = http.fetch(request, DOCUMENT_BYTES_MAX, RESPONSE_TIME_MAX).await?;
    let (keys, skipped) = parse_jwks(&body).map_err(KeySetError::Document)?;
    Ok((keys, skipped, refresh_interval(&headers)))
}

/// The time until the set is fetched again: `max-age`, clamped to the bounds.
fn refresh_interval(headers: &HeaderMap) -> Duration {
    let values = headers.get_all(CACHE_CONTROL).filter_map(|value| value.to_str().ok());
    let mut directives = values.flat_map(|value| value.split(',')).map(str::trim);
    let seconds = directives.find_map(|directive| {
        let (name, seconds) = directive.split_once('=')?;
        name.eq_ignore_ascii_case("max-age").then(|| seconds.trim_matches('"').parse().ok()).flatten()
    });
    seconds.map_or(REFRESH_INTERVAL, Duration::from_secs).clamp(REFRESH_INTERVAL_MIN, REFRESH_INTERVAL_MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tidegate_config::JwtAlgorithm;

    use super::*;

    /// A3: `max-age` of the source sets the interval, between a minute and a day
    #[test]
    fn the_refresh_interval_is_bounded() {
        let interval = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_CONTROL, HeaderValue::from_static(value));
            refresh_interval(&headers).as_secs()
        };
        assert_eq!(interval("public, max-age=3600, must-revalidate"), 3600);
        assert_eq!(interval("Max-Age=\"600\""), 600);
        assert_eq!(interval("max-age=0"), 60);
        assert_eq!(interval("max-age=99999999999"), 86_400);
        for none in ["no-store", "max-age=x", "max-age=-1", "s-maxage=9", "max-age=99999999999999999999999"] {
            assert_eq!(interval(none), 300, "{none}");
        }
        assert_eq!(refresh_interval(&HeaderMap::new()), REFRESH_INTERVAL);
    }

    /// A3: retries after failures back off, and a set is fetched again after its interval
    #[tokio::test(start_paused = true)]
    async fn refreshes_follow_the_interval_and_failures_back_off() {
        let keys = SharedKeySet::new(Vec::new(), vec![JwtAlgorithm::Rs256], true);
        let fetches = AtomicUsize::new(0);
        let start = clock::now();
        let times = std::sync::Mutex::new(Vec::new());
        let fetch = async || {
            times.lock().unwrap().push((clock::now() - start).as_secs());
            match fetches.fetch_add(1, Ordering::Relaxed) {
                0..3 => Err(FetchError::Status(500).into()),
                _ => Ok((Vec::new(), 0, Duration::from_secs(100))),
            }
        };
        let log = Logger::root(slog::Discard, slog::o!());
        let health = RefreshHealth::default();
        let refresh = KeyRefresh { keys: &keys, health: &health, log: &log };
        let ended = tokio::time::timeout(Duration::from_secs(250), refresh.run("x", fetch)).await;
        assert!(ended.is_err(), "the task never ends");
        assert_eq!(health.current(), None, "the last fetches succeeded");
        assert_eq!(*times.lock().unwrap(), [0, 1, 3, 7, 107, 207]);
    }
}
