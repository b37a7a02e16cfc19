//! One load of a step as data.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;

use crate::configuration::JudgedSpec;
use crate::load::LoadShape;
use crate::request_source::KeySpec;
use crate::schedule::{Phase, Schedule};
use crate::size::Bytes;

/// One load of a step. Exactly one of `rate`, `phases`, `requests`, `closed` defines its shape.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoadSpec {
    /// The second part of the names of its statistics.
    pub(crate) name: String,
    /// The requested bucket.
    pub(crate) bucket: String,
    /// The path of the requests; that of an object of the bucket if absent.
    pub(crate) path: Option<String>,
    /// The pair that signs the requests.
    pub(crate) key: Option<KeySpec>,
    /// The answers by which the configuration of a request is recognised.
    pub(crate) judged: Option<JudgedSpec>,
    /// Whether the bucket's rate limit bounds the admitted requests.
    #[serde(default)]
    pub(crate) check_limit: bool,
    /// Whether answers 429 and 503 are no failures.
    #[serde(default)]
    pub(crate) expects_refusals: bool,
    /// Each request has a new connection.
    #[serde(default)]
    pub(crate) new_connections: bool,
    /// Speed at which answers are read; as fast as possible if absent.
    pub(crate) read_bytes_per_second: Option<Bytes>,
    /// `GET` or `PUT`.
    #[serde(default = "get")]
    pub(crate) method: String,
    /// Size of the uploaded body.
    #[serde(default)]
    pub(crate) body_bytes: Bytes,
    /// Additional headers.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// Open loop: requests per second, for the step's length.
    pub(crate) rate: Option<f64>,
    /// Open loop: several rates, one after another.
    pub(crate) phases: Option<Vec<Phase>>,
    /// Closed loop: total number of requests.
    pub(crate) requests: Option<u64>,
    /// Closed loop for the step's length.
    #[serde(default)]
    pub(crate) closed: bool,
    /// Maximum of connections, and so of requests in flight.
    pub(crate) connections: usize,
    /// Source address within 127.0.0.0/8; the system's choice if absent.
    pub(crate) source: Option<IpAddr>,
    /// The client's timeout.
    #[serde(default = "three_seconds")]
    pub(crate) timeout_ms: u64,
    /// Pause of a closed-loop worker after each request.
    #[serde(default)]
    pub(crate) pause_seconds: f64,
    /// Pause of a closed-loop worker after a refusal (429, 503), as in a client with back-off.
    #[serde(default)]
    pub(crate) pause_after_refusal_seconds: f64,
    /// Start of the load after the start of the step.
    #[serde(default)]
    pub(crate) after_seconds: f64,
    /// Requests later than this after the load's start are also reported as `…_after_settling`; not scaled.
    pub(crate) settle_seconds: Option<f64>,
    /// Close the connection after this number of bytes of each answer's body. Each request has a new connection.
    pub(crate) hang_up_after_bytes: Option<Bytes>,
    /// The answer must have the expected content: this number of bytes of the pattern, or its digest.
    pub(crate) verify_bytes: Option<Bytes>,
}

fn get() -> String {
    "GET".to_owned()
}

fn three_seconds() -> u64 {
    3_000
}

impl LoadSpec {
    /// Its shape within a step of `seconds`.
    pub(crate) fn offered(&self, seconds: f64) -> LoadShape {
        let seconds = seconds - self.after_seconds;
        match (self.rate, &self.phases, self.requests) {
            (Some(rate), _, _) => LoadShape::Open(Schedule::constant(rate, seconds)),
            (_, Some(phases), _) => LoadShape::Open(Schedule::new(phases.clone())),
            (_, _, Some(requests)) => LoadShape::Requests(requests),
            _ => LoadShape::Seconds(seconds),
        }
    }

    /// The client's timeout.
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}
