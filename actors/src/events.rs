//! Decisions of actors that concern no single request: transitions of level and circuit, ejections and returns (O4).
//!
//! An actor reports each as it makes it, with the values that decided. The receiver must not block: it runs in the
//! actor's handler.

use std::sync::Arc;
use std::time::Duration;

use crate::trip::{EjectionTrip, RefusalProof, Trip};
use crate::types::BucketId;

/// What changed.
#[derive(Debug, Clone, PartialEq)]
pub enum ActorChange {
    /// The degradation level rose or fell.
    Level {
        /// The level before.
        from: &'static str,
        /// The level after.
        to: &'static str,
        /// Whether it rose.
        rose: bool,
        /// The reading that decided, in percent; none if it was unknown.
        percent: Option<f64>,
        /// The threshold that it was compared with, in percent.
        threshold: Option<u8>,
        /// Sensor, reading and threshold in words.
        cause: String,
    },
    /// A circuit opened.
    CircuitOpened {
        /// The operation class of its requests.
        class: &'static str,
        /// The failure that opened it.
        cause: String,
        /// The rule that opened it, with its figures; none if a restart lost them.
        trip: Option<Trip>,
        /// How long it stays open.
        open_for: Duration,
    },
    /// A circuit became half-open.
    CircuitHalfOpened {
        /// The operation class of its requests.
        class: &'static str,
        /// Whether a connection to the upstream ended the open time early.
        by_connect: bool,
    },
    /// A circuit closed.
    CircuitClosed {
        /// The operation class of its requests.
        class: &'static str,
        /// The successful trials that closed it.
        successes: u32,
    },
    /// An endpoint was taken out of rotation.
    EndpointExcluded {
        /// The endpoint's position in the configuration.
        endpoint: usize,
        /// The kind of failure.
        cause: &'static str,
        /// The rule that ejected it; none if it is unreachable and backs off.
        ejected_by: Option<EjectionTrip>,
        /// Failures in a row.
        failures: u32,
        /// For how long.
        time: Duration,
    },
    /// Health checks found an endpoint unhealthy.
    EndpointUnhealthy {
        /// The endpoint's position in the configuration.
        endpoint: usize,
        /// The failed checks in a row that this takes.
        failures: u32,
    },
    /// An endpoint returned to rotation.
    EndpointReturned {
        /// The endpoint's position in the configuration.
        endpoint: usize,
    },
    /// All endpoints failed, and all are called.
    PanicEntered,
    /// An endpoint succeeded again.
    PanicEnded,
    /// The standby endpoints serve.
    FailedOver {
        /// Percentage of primary endpoints that are usable.
        usable_percent: usize,
        /// The percentage that it fell below.
        min_usable_percent: usize,
    },
    /// The primary endpoints serve again.
    FailedBack {
        /// How long enough of them have been usable.
        usable_for: Duration,
        /// The time that this reached.
        return_after: Duration,
    },
    /// The primary endpoints serve again, because no standby endpoint is usable.
    StandbyFailed,
    /// A credential is not used because the upstream throttled it.
    CredentialThrottled {
        /// The credential's position in the configuration.
        credential: usize,
        /// For how long.
        time: Duration,
    },
    /// A credential is not used because the upstream refused it.
    CredentialRefused {
        /// The credential's position in the configuration.
        credential: usize,
        /// What proves that.
        proof: RefusalProof,
        /// For how long.
        time: Duration,
    },
    /// A credential is used again.
    CredentialReturned {
        /// The credential's position in the configuration.
        credential: usize,
    },
}

/// Receives the decisions of actors.
pub trait ActorEventSink: Send + Sync {
    /// Records a change, of a bucket or of the whole gateway.
    fn record(&self, bucket: Option<BucketId>, change: &ActorChange);

    /// The sink of an actor that is created now for a bucket; none if it is the same.
    fn of_bucket(&self, _bucket: BucketId) -> Option<Arc<dyn ActorEventSink>> {
        None
    }
}

/// The sink of one actor. Without a sink its changes are dropped.
#[derive(Clone, Default)]
pub(crate) struct ActorEvents {
    sink: Option<Arc<dyn ActorEventSink>>,
    bucket: Option<BucketId>,
}

impl ActorEvents {
    pub(crate) fn new(sink: Arc<dyn ActorEventSink>) -> Self {
        Self { sink: Some(sink), bucket: None }
    }

    /// The same for the actor of a bucket.
    pub(crate) fn of_bucket(&self, bucket: BucketId) -> Self {
        let own = self.sink.as_ref().and_then(|sink| sink.of_bucket(bucket));
        Self { sink: own.or_else(|| self.sink.clone()), bucket: Some(bucket) }
    }

    pub(crate) fn emit(&self, change: ActorChange) {
        if let Some(sink) = &self.sink {
            sink.record(self.bucket, &change);
        }
    }
}
