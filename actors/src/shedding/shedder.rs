//! What a request reads of one cursor, in any thread: whether it is refused, and what it costs its client.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tidegate_config::{
    ActionMode, ConcurrencyConfig, Config, MonitorConfig, Priority, QueueSheddingConfig, SheddingConfig,
};

use crate::shedding::clients::ClientTable;
use crate::shedding::cost_sampler::CostSampler;
use crate::shedding::cursor::{CLASSES, CURSOR_MAX, CursorTarget};
use crate::shedding::fair_share::ClassCosts;
use crate::shedding::order::{self, ClassCut, ClientLoad, CutRule};
use crate::shedding::published::{self, CursorCause, CursorReading, PublishedCursor};
use crate::shedding::waits::{PublishedWait, SharedTotals};
use crate::types::ClientId;

/// Time after which other clients are cut by the hash.
const COHORT_PERIOD: Duration = Duration::from_secs(30);
/// When to retry, if some requests of the client are admitted; the cut may be over then.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// The longest time to retry of a client that is cut until the period ends.
const RETRY_MAX: Duration = Duration::from_secs(5);
/// The length of a queue above which the cursor rises, in percent of the longest.
const QUEUE_LENGTH_THRESHOLD: f64 = 50.0;
/// The step of the draws: multiples of the golden ratio are spread evenly.
const DRAW_STEP: u32 = 0x9E37_79B9;

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shed {
    /// The cursor that decided.
    pub cursor: f64,
    /// What raised it last.
    pub cause: CursorCause,
    /// The threshold that the cause crossed, of a wait in milliseconds, else in percent.
    pub threshold: f64,
    /// The class of the request.
    pub class: Priority,
    /// The client as the request presented or proved it.
    pub client: Option<ClientId>,
    /// The rule that cut it.
    pub rule: CutRule,
    /// When to retry.
    pub retry_after: Duration,
}

/// The decision about a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SheddingDecision {
    /// Admitted.
    Admit {
        /// The requests of its client that this one stands for: one in so many is admitted. 1 in shadow mode, in which
        /// the others pass too.
        weight: f64,
    },
    /// Refused.
    Refuse(Shed),
    /// It would be refused, and the mode is `shadow`.
    Shadow(Shed),
}

/// The configuration of a cursor. That of the process is replaced by a reload.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ShedderSettings {
    pub(super) mode: ActionMode,
    pub(super) target: CursorTarget,
    /// The percentage of a limit above which pressure moves the cursor.
    pub(super) pressure_threshold: f64,
}

impl ShedderSettings {
    /// The settings of the process.
    pub(crate) fn of_process(shedding: &SheddingConfig, monitor: &MonitorConfig) -> Self {
        let target = CursorTarget::of_process(shedding.target_wait, monitor.dwell);
        let pressure_threshold = f64::midpoint(f64::from(monitor.critical), f64::from(monitor.exhausted));
        Self { mode: shedding.mode, target, pressure_threshold }
    }

    /// The settings of a bucket's queue. Without a queue no request waits, and the cursor is off.
    pub(crate) fn of_queue(concurrency: &ConcurrencyConfig) -> Self {
        let QueueSheddingConfig { mode, target_wait } = concurrency.shedding;
        let mode = if concurrency.max_queued == 0 { ActionMode::Off } else { mode };
        let target = CursorTarget::of_queue(target_wait.unwrap_or(concurrency.queue_timeout));
        Self { mode, target, pressure_threshold: QUEUE_LENGTH_THRESHOLD }
    }

    /// The threshold that this cause crossed, of a wait in milliseconds, else in percent.
    fn threshold(&self, cause: CursorCause) -> f64 {
        match cause {
            CursorCause::Wait(_) | CursorCause::EarlyWait(_) => {
                (self.target.threshold(cause).as_secs_f64() * 1e6).round() / 1e3
            }
            CursorCause::Pressure(_) | CursorCause::QueueLength(_) => self.pressure_threshold,
        }
    }
}

/// One cursor, its order and its clients.
#[derive(Debug)]
pub struct Shedder {
    /// Read by requests only while the cursor is above 0.
    settings: RwLock<ShedderSettings>,
    created: Instant,
    pub(super) published: PublishedCursor,
    /// Created with the first charge.
    clients: OnceLock<ClientTable>,
    hasher: ahash::RandomState,
    is_tracking: AtomicBool,
    draws: AtomicU32,
    refused: [AtomicU64; CLASSES],
    shadowed: [AtomicU64; CLASSES],
    pub(super) wait: PublishedWait,
    queue_waits: SharedTotals,
}

impl Shedder {
    /// The cursor of the process.
    pub(crate) fn of_process(config: &Config, now: Instant) -> Self {
        Self::with_settings(ShedderSettings::of_process(&config.shedding, &config.monitor), now)
    }

    /// The cursor of a bucket's queue.
    pub(crate) fn of_queue(concurrency: &ConcurrencyConfig, now: Instant) -> Self {
        Self::with_settings(ShedderSettings::of_queue(concurrency), now)
    }

    #[cfg(test)]
    pub(crate) fn new(
        (mode, target): (ActionMode, CursorTarget),
        pressure_threshold: f64,
        now: Instant,
    ) -> Self {
        Self::with_settings(ShedderSettings { mode, target, pressure_threshold }, now)
    }

    /// The cursor of the process tracks its clients always, that of a queue from the first wait on.
    fn with_settings(settings: ShedderSettings, now: Instant) -> Self {
        let is_tracking = !settings.target.is_queue && settings.mode != ActionMode::Off;
        Self {
            settings: RwLock::new(settings),
            created: now,
            published: PublishedCursor::default(),
            clients: OnceLock::new(),
            hasher: ahash::RandomState::new(),
            is_tracking: AtomicBool::new(is_tracking),
            draws: AtomicU32::new(0),
            refused: Default::default(),
            shadowed: Default::default(),
            wait: PublishedWait::new(now),
            queue_waits: SharedTotals::default(),
        }
    }

    /// The cursor of the same bucket's queue under another configuration: it starts where this one is, with its counts, unless
    /// shedding is off. The owner goes on from the published cursor (`CursorOwner::rebuild`).
    pub fn successor(&self, concurrency: &ConcurrencyConfig, now: Instant) -> Self {
        let settings = ShedderSettings::of_queue(concurrency);
        let next = Self::with_settings(settings, now);
        if settings.mode != ActionMode::Off && self.is_active() {
            next.published.publish(self.published.reading(), [0, 1, 2].map(|at| self.published.cut(at)));
        }
        for (count, before) in [(&next.refused, &self.refused), (&next.shadowed, &self.shadowed)] {
            for (count, before) in count.iter().zip(before) {
                count.store(before.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
        Self { created: self.created, hasher: self.hasher.clone(), ..next }
    }

    /// The published cursor as it crosses to a successor.
    pub(crate) fn exported(&self) -> u64 {
        self.published.word()
    }

    /// Starts where the cursor of a predecessor was, unless shedding is off. The owner goes on from the published cursor.
    pub(crate) fn import(&self, exported: u64) {
        let CursorReading { cursor, cause } = published::decode(exported);
        if self.settings().mode != ActionMode::Off && cursor > 0.0 {
            let cursor = cursor.min(CURSOR_MAX);
            self.published.publish(CursorReading { cursor, cause }, Self::cuts(cursor, &self.class_costs()));
        }
    }

    /// The configuration.
    pub(crate) fn settings(&self) -> ShedderSettings {
        *self.settings.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the configuration. Only the owner calls this.
    pub(super) fn set_settings(&self, settings: ShedderSettings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    /// With a hash of clients that does not differ between processes, for replays.
    pub(crate) fn with_hash_seed(self, seed: u64) -> Self {
        Self { hasher: ahash::RandomState::with_seeds(seed, 2, 3, 4), ..self }
    }

    /// The acceptable wait.
    pub(crate) fn target_wait(&self) -> Duration {
        self.settings().target.wait
    }

    /// Whether the cursor is above 0. One relaxed load.
    pub fn is_active(&self) -> bool {
        self.published.is_active()
    }

    /// Whether requests are charged to their clients.
    pub fn is_tracking(&self) -> bool {
        self.is_tracking.load(Ordering::Relaxed)
    }

    /// Begins or ends tracking. A new period begins without clients.
    pub(crate) fn set_tracking(&self, is_tracking: bool) {
        if self.is_tracking.swap(is_tracking, Ordering::Relaxed) != is_tracking
            && is_tracking
            && let Some(clients) = self.clients.get()
        {
            clients.clear();
        }
    }

    /// Charges an admitted request to its client, in tokens.
    pub fn charge(&self, client: ClientId, class: Priority, tokens: f64) {
        self.clients().charge(client, class, tokens);
    }

    /// Decides about a request, and counts a refusal.
    pub fn decide(&self, client: Option<ClientId>, class: Priority, now: Instant) -> SheddingDecision {
        if !self.is_active() {
            return SheddingDecision::Admit { weight: 1.0 };
        }
        let settings = self.settings();
        let (keep, shed) = self.peek_with(&settings, client, class, now);
        let draw = self.draws.fetch_add(DRAW_STEP, Ordering::Relaxed);
        if f64::from(draw) / (f64::from(u32::MAX) + 1.0) < keep {
            let weight = if settings.mode == ActionMode::Enforce { 1.0 / keep } else { 1.0 };
            return SheddingDecision::Admit { weight };
        }
        let position = order::position(class);
        if settings.mode == ActionMode::Enforce {
            self.refused[position].fetch_add(1, Ordering::Relaxed);
            SheddingDecision::Refuse(shed)
        } else {
            self.shadowed[position].fetch_add(1, Ordering::Relaxed);
            SheddingDecision::Shadow(shed)
        }
    }

    /// The probability that such a request is admitted now, and its refusal otherwise. Nothing is counted.
    pub fn peek(&self, client: Option<ClientId>, class: Priority, now: Instant) -> (f64, Shed) {
        self.peek_with(&self.settings(), client, class, now)
    }

    fn peek_with(
        &self,
        settings: &ShedderSettings,
        client: Option<ClientId>,
        class: Priority,
        now: Instant,
    ) -> (f64, Shed) {
        let CursorReading { cursor, cause } = self.published.reading();
        let cut = self.published.cut(order::position(class));
        let elapsed = now.saturating_duration_since(self.created).as_secs();
        let period = elapsed / COHORT_PERIOD.as_secs();
        // A connection without an address is cut like the client with the lowest hash.
        let load = client.map_or(ClientLoad { cost: 0.0, is_dominant: false, hash: 0.0 }, |client| {
            let (cost, is_dominant) = self.clients().cost(client, class);
            ClientLoad { cost, is_dominant, hash: self.clients().period_hash(client, period) }
        });
        let (keep, rule) = order::keep(cut, load);
        let period_left = Duration::from_secs((period + 1) * COHORT_PERIOD.as_secs() - elapsed);
        let retry_after = match rule {
            CutRule::Cohort => period_left.clamp(RETRY_MIN, RETRY_MAX),
            CutRule::None | CutRule::Excess | CutRule::Dominant => RETRY_MIN,
        };
        let threshold = settings.threshold(cause);
        (keep, Shed { cursor, cause, threshold, class, client, rule, retry_after })
    }

    /// Records the wait of a request that left the queue, permitted or refused.
    pub(crate) fn record_queue_wait(&self, wait: Duration) {
        self.queue_waits.add(wait);
    }

    pub(crate) fn queue_waits(&self) -> &SharedTotals {
        &self.queue_waits
    }

    pub(super) fn clients(&self) -> &ClientTable {
        self.clients.get_or_init(|| ClientTable::default().with_hasher(self.hasher.clone()))
    }

    /// The table, if a request has been charged.
    pub(super) fn known_clients(&self) -> Option<&ClientTable> {
        self.clients.get()
    }

    /// The clients' present costs.
    pub(super) fn class_costs(&self) -> [ClassCosts; CLASSES] {
        // Without a wait only a part of the requests is charged to the cursor of the process.
        let weight = if self.settings().target.is_queue { 1.0 } else { CostSampler::WEIGHT };
        self.known_clients().map(|clients| clients.class_costs(weight)).unwrap_or_default()
    }

    /// The cuts of this cursor with these costs.
    pub(super) fn cuts(cursor: f64, costs: &[ClassCosts; CLASSES]) -> [ClassCut; CLASSES] {
        let mut cuts = [ClassCut::NONE; CLASSES];
        for ((position, cut), costs) in cuts.iter_mut().enumerate().zip(costs) {
            *cut = ClassCut::new(order::cut_fraction(cursor, position), costs);
        }
        cuts
    }

    /// Requests of each class, the lowest first, that were refused and that would have been.
    pub(super) fn counts(&self) -> ([u64; CLASSES], [u64; CLASSES]) {
        let read = |of: &[AtomicU64; CLASSES]| [0, 1, 2].map(|at: usize| of[at].load(Ordering::Relaxed));
        (read(&self.refused), read(&self.shadowed))
    }
}

#[cfg(test)]
#[path = "shedder_tests.rs"]
mod tests;
