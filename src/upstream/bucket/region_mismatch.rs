//! Warns that a store requires signatures for another region than `buckets.NAME.s3.region`.
//!
//! Every request to such a store fails, and no failure counts against its circuit or its endpoints, because the
//! configuration is wrong and not the store. The log warns once per `LOG_INTERVAL` and bucket, whatever clients do.
//!
//! Source: S3 API reference, "Error responses" (`AuthorizationHeaderMalformed`, `IllegalLocationConstraintException`,
//! `PermanentRedirect`).

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use slog::{Logger, warn};
use tidegate_config::key_name;

/// The time between two lines about a bucket.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The region that a bucket's requests are signed for, and the log of stores that require another one.
pub(crate) struct SigningRegion {
    region: String,
    bucket: String,
    log: Logger,
    /// When the last line was written.
    logged: Mutex<Option<Instant>>,
}

impl SigningRegion {
    pub(crate) fn new(region: &str, bucket: &str, log: &Logger) -> Self {
        Self {
            region: region.to_owned(),
            bucket: bucket.to_owned(),
            log: log.clone(),
            logged: Mutex::default(),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.region
    }

    /// Logs that the store requires `store_region`, if that is another region.
    pub(crate) fn log_mismatch(&self, store_region: &str, now: Instant) {
        if store_region == self.region || !self.is_due(now) {
            return;
        }
        let key = key_name(&["buckets", &self.bucket, "s3", "region"]);
        warn!(self.log, "the store requires signatures for another region"; "bucket" => &self.bucket,
            "region" => &self.region, "store_region" => store_region,
            "hint" => format!("set {key} to the store's region"));
    }

    /// Whether the last line is old enough. The next one is then due after another interval.
    fn is_due(&self, now: Instant) -> bool {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = logged.is_none_or(|logged| now.saturating_duration_since(logged) >= LOG_INTERVAL);
        if is_due {
            *logged = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use tidegate_actors::clock;

    use super::*;

    /// O2: at most one line per interval
    #[test]
    fn lines_about_a_region_are_bounded() {
        let region = SigningRegion::new("us-east-1", "b", &Logger::root(slog::Discard, slog::o!()));
        let now = clock::now();
        let due =
            [0, 1, 59, 60, 61, 119, 120].map(|seconds| region.is_due(now + Duration::from_secs(seconds)));
        assert_eq!(due, [true, false, false, true, false, false, true]);
    }
}
