//! Whether a failed attempt is made again, and when (R1–R4, R7). Whether the bucket can afford it is its pool's to say (R5).
//!
//! Clients say in headers of their own that they try again: the AWS SDKs (`amz-sdk-request`), Google's storage clients
//! (`x-goog-api-client`), the SDKs that Stainless makes for APIs (`x-stainless-retry-count`), and an Envoy before the
//! gateway (`x-envoy-attempt-count`). A client that lies in them has only its own request tried less often.

use std::time::{Duration, SystemTime};

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use rand::Rng;
use tidegate_config::RetryConfig;

/// What an upstream may make the gateway wait before it tries again; asked for more, its answer is passed on.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(5);
const SDK_REQUEST: HeaderName = HeaderName::from_static("amz-sdk-request");
const GOOGLE_CLIENT: HeaderName = HeaderName::from_static("x-goog-api-client");
const STAINLESS_RETRIES: HeaderName = HeaderName::from_static("x-stainless-retry-count");
const ENVOY_ATTEMPTS: HeaderName = HeaderName::from_static("x-envoy-attempt-count");

/// Whether the client is itself trying again, seen from its own headers: then the gateway leaves it to the client.
pub(crate) fn is_client_retry(headers: &HeaderMap) -> bool {
    let over = |name, most: u32, number: fn(&str) -> Option<&str>| {
        let text = headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        text.and_then(number)
            .and_then(|digits| digits.parse::<u32>().ok())
            .is_some_and(|number| number > most)
    };
    over(SDK_REQUEST, 1, |text| text.split(';').find_map(|part| part.trim().strip_prefix("attempt=")))
        || over(GOOGLE_CLIENT, 1, |text| {
            text.split_whitespace().find_map(|part| part.strip_prefix("gccl-attempt-count/"))
        })
        || over(STAINLESS_RETRIES, 0, |text| Some(text))
        || over(ENVOY_ATTEMPTS, 1, |text| Some(text))
}

/// The wait before attempt `next` (2, 3, …), or none if the upstream asks for more than it may have.
pub(crate) fn backoff(
    config: &RetryConfig,
    next: u32,
    asked: Option<Duration>,
    left: Duration,
) -> Option<Duration> {
    let doublings = next.saturating_sub(2).min(16);
    let ceiling = config.initial_backoff.saturating_mul(1 << doublings).min(config.max_backoff);
    // Full jitter: clients that failed together must not come back together.
    let jittered = ceiling.mul_f64(rand::rng().random::<f64>());
    let wait = match asked {
        Some(asked) if asked > RETRY_AFTER_MAX => return None,
        Some(asked) => asked.max(jittered),
        None => jittered,
    };
    (wait < left).then_some(wait)
}

/// How long an upstream asked to be left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct UpstreamRetryAfter {
    /// None where it asked for nothing that can be understood.
    pub(crate) wait: Option<Duration>,
    /// What is odd about how it asked.
    pub(crate) anomaly: Option<RetryAfterAnomaly>,
}

/// What may be odd about a `Retry-After`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RetryAfterAnomaly {
    /// Neither whole seconds nor a date: it is ignored.
    Malformed,
    /// A date that is over: that is now.
    Past,
    /// More than anybody will be left alone for.
    Capped,
}

impl RetryAfterAnomaly {
    pub(crate) const ALL: [Self; 3] = [Self::Malformed, Self::Past, Self::Capped];

    /// The word in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Past => "past",
            Self::Capped => "capped",
        }
    }
}

impl UpstreamRetryAfter {
    /// Reads `Retry-After` in seconds or as a date (RFC 9110, 10.2.3), as an upstream may write it that means no good.
    pub(crate) fn parse(headers: &HeaderMap, now: SystemTime, most: Duration) -> Self {
        let Some(value) = headers.get(RETRY_AFTER) else {
            return Self::default();
        };
        let text = value.to_str().unwrap_or_default().trim();
        let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            // A number of any length is a number.
            Ok(text.parse().map_or(Duration::MAX, Duration::from_secs))
        } else {
            httpdate::parse_http_date(text)
                .map_err(|_| RetryAfterAnomaly::Malformed)
                .and_then(|date| date.duration_since(now).map_err(|_| RetryAfterAnomaly::Past))
        };
        match wait {
            Ok(wait) if wait > most => Self { wait: Some(most), anomaly: Some(RetryAfterAnomaly::Capped) },
            Ok(wait) => Self { wait: Some(wait), anomaly: None },
            Err(RetryAfterAnomaly::Past) => {
                Self { wait: Some(Duration::ZERO), anomaly: Some(RetryAfterAnomaly::Past) }
            }
            Err(oddity) => Self { wait: None, anomaly: Some(oddity) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &'static str) -> HeaderMap {
        let mut map = HeaderMap::new();
        map.insert(name, HeaderValue::from_static(value));
        map
    }

    /// R4
    #[test]
    fn retry_after_is_read_in_both_forms_and_capped() {
        let now = httpdate::parse_http_date("Fri, 20 Nov 2026 12:00:00 GMT").unwrap();
        let most = Duration::from_secs(600);
        let asked = |value| {
            let UpstreamRetryAfter { wait, anomaly } =
                UpstreamRetryAfter::parse(&headers(RETRY_AFTER, value), now, most);
            (wait.map(|wait| wait.as_secs()), anomaly)
        };
        assert_eq!(asked("3"), (Some(3), None));
        assert_eq!(asked("600"), (Some(600), None));
        assert_eq!(asked("Fri, 20 Nov 2026 12:00:02 GMT"), (Some(2), None));
        assert_eq!(asked("Fri, 20 Nov 2020 12:00:00 GMT"), (Some(0), Some(RetryAfterAnomaly::Past)));
        for far in ["601", "4294967296", "99999999999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"] {
            assert_eq!(asked(far), (Some(600), Some(RetryAfterAnomaly::Capped)), "{far}");
        }
        for nonsense in
            ["-1", "1e99", "0x10", "1.5", "+3", "NaN", "soon", "", "Fri, 99 Nov 2026 12:00:02 GMT"]
        {
            assert_eq!(asked(nonsense), (None, Some(RetryAfterAnomaly::Malformed)), "{nonsense}");
        }
        assert_eq!(UpstreamRetryAfter::parse(&HeaderMap::new(), now, most), UpstreamRetryAfter::default());
        let config = RetryConfig::default();
        let left = Duration::from_secs(30);
        assert_eq!(backoff(&config, 2, Some(Duration::from_secs(6)), left), None);
        assert!(backoff(&config, 2, Some(Duration::from_secs(2)), left).unwrap() >= Duration::from_secs(2));
        assert_eq!(backoff(&config, 2, Some(Duration::from_secs(2)), Duration::from_secs(1)), None);
    }

    /// R2
    #[test]
    fn the_back_off_doubles_with_full_jitter_up_to_its_cap() {
        let config = RetryConfig::default();
        let left = Duration::from_secs(30);
        for (next, ceiling) in [(2, 100), (3, 200), (4, 400), (9, 1000), (99, 1000)] {
            let waits: Vec<Duration> = (0..200).filter_map(|_| backoff(&config, next, None, left)).collect();
            let ceiling = Duration::from_millis(ceiling);
            assert!(waits.iter().all(|wait| *wait <= ceiling));
            assert!(
                waits.iter().any(|wait| *wait > ceiling / 2) && waits.iter().any(|wait| *wait < ceiling / 2)
            );
        }
    }

    /// R7
    #[test]
    fn a_client_that_retries_is_not_multiplied() {
        let google = "gl-python/3.12 gccl/2.18 gccl-invocation-id/0a gccl-attempt-count/";
        let google = [1, 2].map(|count| HeaderValue::try_from(format!("{google}{count}")).unwrap());
        for (name, first, again) in [
            (SDK_REQUEST, "attempt=1; max=3", "attempt=2; max=3"),
            (SDK_REQUEST, "ttl=20261121T000000Z", "ttl=20261121T000000Z; attempt=3"),
            (STAINLESS_RETRIES, "0", "1"),
            (ENVOY_ATTEMPTS, "1", "2"),
            (ENVOY_ATTEMPTS, "-1", "7"),
        ] {
            assert!(!is_client_retry(&headers(name.clone(), first)), "{name}: {first}");
            assert!(is_client_retry(&headers(name.clone(), again)), "{name}: {again}");
        }
        let [first, again] = google.map(|value| HeaderMap::from_iter([(GOOGLE_CLIENT, value)]));
        assert_eq!((is_client_retry(&first), is_client_retry(&again)), (false, true));
        assert!(!is_client_retry(&HeaderMap::new()));
    }
}
