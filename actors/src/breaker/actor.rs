//! The breaker's messages and its shell.

use std::sync::Arc;
use std::time::Instant;

use slog::{Logger, info, warn};
use tidegate_config::BreakerConfig;

use crate::breaker::decision::{Change, Entry, Refusal, Transition, TrialId};
use crate::breaker::metrics::BreakerMetrics;
use crate::breaker::outcome::{Failure, Outcome};
use crate::breaker::published::Board;
use crate::breaker::state::Circuit;
use crate::breaker::ticket::{BreakerTicket, Shared};
use crate::host::{Component, Serve};
use crate::mailbox::Request;
use crate::types::BucketId;

/// May a request be tried? The ticket is built into the reply from what the message brings along.
pub(crate) struct Try {
    pub(crate) bucket: BucketId,
    pub(crate) shared: Arc<Shared>,
}

impl Request for Try {
    type Reply = Result<BreakerTicket, Refusal>;
    const NAME: &'static str = "breaker.try";

    fn likeness(&self) -> u64 {
        self.bucket.index() as u64
    }
}

/// How calls through a closed circuit went: some successes, then perhaps a failure.
pub(crate) struct Judge {
    pub(crate) bucket: BucketId,
    pub(crate) generation: u32,
    pub(crate) successes: u32,
    pub(crate) failure: Option<Failure>,
}

impl Request for Judge {
    type Reply = ();
    const NAME: &'static str = "breaker.judge";

    fn likeness(&self) -> u64 {
        self.bucket.index() as u64 | u64::from(self.generation) << 32
    }
}

/// How a trial went.
pub(crate) struct EndTrial {
    pub(crate) bucket: BucketId,
    pub(crate) generation: u32,
    pub(crate) id: TrialId,
    pub(crate) outcome: Outcome,
}

impl Request for EndTrial {
    type Reply = ();
    const NAME: &'static str = "breaker.end_trial";

    fn likeness(&self) -> u64 {
        self.bucket.index() as u64 | u64::from(self.generation) << 32
    }
}

/// The component.
pub(crate) struct Breaker {
    circuits: Vec<Circuit>,
    names: Arc<[String]>,
    board: Arc<Board>,
    metrics: BreakerMetrics,
    log: Logger,
}

impl Breaker {
    /// One circuit for each bucket, closed.
    pub(crate) fn new(
        configs: &[BreakerConfig],
        names: Arc<[String]>,
        seed: u64,
        board: Arc<Board>,
        metrics: BreakerMetrics,
        log: Logger,
    ) -> Self {
        // Each circuit has a seed of its own, or all that re-open together would be tried together.
        let circuit =
            |(config, index): (&BreakerConfig, u64)| Circuit::new(config.clone(), seed.wrapping_add(index));
        let circuits = configs.iter().zip(0..).map(circuit).collect();
        let this = Self { circuits, names, board, metrics, log };
        for bucket in this.buckets() {
            this.publish(bucket);
        }
        this
    }

    fn buckets(&self) -> impl Iterator<Item = BucketId> + use<> {
        (0..self.circuits.len()).filter_map(|index| u16::try_from(index).ok()).map(BucketId::new)
    }

    fn publish(&self, bucket: BucketId) {
        let snapshot = self.circuits[bucket.index()].snapshot();
        self.board.publish(bucket, snapshot);
        self.metrics.published(bucket, &snapshot);
    }

    fn changed(&self, bucket: BucketId, transition: Option<Transition>) {
        self.publish(bucket);
        let name = self.names.get(bucket.index()).map_or("", String::as_str);
        match transition {
            None => {}
            Some(Transition::Opened { cause, open_for }) => {
                self.metrics.opened(bucket);
                warn!(self.log, "circuit opened"; "bucket" => name, "cause" => %cause,
                    "open_ms" => u64::try_from(open_for.as_millis()).unwrap_or(u64::MAX));
            }
            Some(Transition::HalfOpened) => info!(self.log, "circuit half-open"; "bucket" => name),
            Some(Transition::Closed) => info!(self.log, "circuit closed"; "bucket" => name),
        }
    }
}

impl Component for Breaker {
    fn rebuild(&mut self, now: Instant) {
        for bucket in self.buckets() {
            let last = self.board.read(bucket);
            let transition = self.circuits[bucket.index()].rebuild(last, now);
            self.changed(bucket, transition);
        }
    }
}

impl Serve<Try> for Breaker {
    type Decision = Result<Entry, Refusal>;

    fn decide(&self, message: &Try, now: Instant) -> Self::Decision {
        self.circuits[message.bucket.index()].admit(now)
    }

    fn apply(&mut self, message: Try, entry: Self::Decision, now: Instant) -> Result<BreakerTicket, Refusal> {
        let Try { bucket, shared } = message;
        let (pass, transition) = self.circuits[bucket.index()].enter(entry?, now);
        self.changed(bucket, transition);
        Ok(BreakerTicket::new(shared, bucket, pass))
    }
}

impl Serve<Judge> for Breaker {
    type Decision = Change;

    fn decide(&self, message: &Judge, _: Instant) -> Change {
        self.circuits[message.bucket.index()].judge(message.generation, message.successes, message.failure)
    }

    fn apply(&mut self, message: Judge, change: Change, now: Instant) {
        let transition = self.circuits[message.bucket.index()].change(change, now);
        self.changed(message.bucket, transition);
    }
}

impl Serve<EndTrial> for Breaker {
    type Decision = Change;

    fn decide(&self, message: &EndTrial, _: Instant) -> Change {
        self.circuits[message.bucket.index()].judge_trial(message.generation, message.id, message.outcome)
    }

    fn apply(&mut self, message: EndTrial, change: Change, now: Instant) {
        let transition = self.circuits[message.bucket.index()].change(change, now);
        self.changed(message.bucket, transition);
    }
}
