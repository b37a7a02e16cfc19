//! `GET /status/stream`: server-sent events of the status (X7), and the task that also fills the history.
//!
//! One task on the admin thread takes a sample a second and sends it, and sends each change of the causes as it is published; another one
//! builds snapshots for new watchers, one for all that wait. An event is encoded once, and all watchers share its bytes. `hub.rs` has the
//! numbers of events, the changes that a watcher can resume from, and the watchers; `watcher.rs` the bounded queue of one watcher;
//! `encode.rs` the format. No lock that a worker waits for is taken here.

mod encode;
mod hub;
mod watcher;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::web::Data;
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse};
use bytes::Bytes;
use slog::{error, info};
use tidegate_actors::{ConfigNumber, clock};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval_at};

use super::history::{History, HistoryFilter, MEMORY_MAX, POINT_EVERY, Sampler};
use crate::admin::access::AdminAccess;
use crate::admin::decisions::invalid_parameter;
use crate::admin::decisions::parameters::{InvalidParameter, Parameters, invalid};
use crate::admin::drain;
use crate::admin::error_tally::ErrorTally;
use crate::admin::limit_use::{LastHour, LimitUse};
use crate::admin::rejection::{AdminRejection, close_after};
use crate::admin::session::{Session, StreamSession};
use crate::buffers::send_progress::SendProgress;
use crate::degradation::published::CauseList;
use crate::http::error::{encoded_json_reply, event_stream_reply};
use crate::http::request_id;
use crate::process::{DrainPhase, Shared};
use crate::request_head::HeaderView;
use crate::server::connection_reserve::{ConnectionReserve, ConnectionTicket};
use crate::worker::slot::{CurrentWorker, WorkerSlot};
use hub::EventHub;
use watcher::EventBody;

/// The least time between two snapshots. Watchers that arrive meanwhile share the next one.
const SNAPSHOT_PAUSE: Duration = Duration::from_millis(100);
/// The time between two reports of the session cache.
const SESSIONS_EVERY: Duration = Duration::from_secs(5);
/// The pause before a task starts again after a panic.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
const LAST_EVENT_ID: &str = "last-event-id";
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
const OF_STREAM: [&str; 1] = ["samples"];
const OF_HISTORY: [&str; 1] = ["series"];

/// The event streams and the history, on the admin thread.
pub(crate) struct StatusFeed {
    slot: Rc<WorkerSlot>,
    hub: RefCell<EventHub>,
    history: RefCell<History>,
    sampler: RefCell<Sampler>,
    errors: RefCell<ErrorTally>,
    limits: RefCell<LimitUse>,
    /// The whole history as of the last sample, once it was asked for.
    document: RefCell<Option<Bytes>>,
    snapshot_wanted: Notify,
    /// The number of the last event of a cause that was sent.
    sequence: Cell<u64>,
    /// The second of the last sample, counted from the start.
    second: Cell<u64>,
    started: Instant,
    /// The number of the configuration of the last sample.
    configuration: Cell<ConfigNumber>,
    access: Rc<AdminAccess>,
    /// The changes of tokens that have ended the streams before them.
    token_changes: Cell<u64>,
}

impl StatusFeed {
    /// Starts the tasks. Must be called on the admin thread.
    pub(crate) fn start(
        slot: &Rc<WorkerSlot>,
        reserve: &Arc<ConnectionReserve>,
        access: &Rc<AdminAccess>,
    ) -> Rc<Self> {
        let (worker, now) = (slot.current(), clock::now());
        let shared = &worker.shared;
        let errors = ErrorTally::new(shared);
        let (mut sampler, mut history) = (Sampler::new(shared, &errors, now), History::default());
        sampler.new_series().for_each(|series| history.add(series));
        let feed = Rc::new(Self {
            slot: Rc::clone(slot),
            hub: RefCell::new(EventHub::new(shared.process.degradation.started.wall)),
            history: RefCell::new(history),
            sampler: RefCell::new(sampler),
            errors: RefCell::new(errors),
            limits: RefCell::new(LimitUse::new(&shared.config, reserve, now)),
            document: RefCell::default(),
            snapshot_wanted: Notify::new(),
            sequence: Cell::new(0),
            second: Cell::new(0),
            started: now,
            configuration: Cell::new(shared.number()),
            access: Rc::clone(access),
            token_changes: Cell::new(access.token_changes()),
        });
        restart_after_panics(&feed, Self::send_events);
        restart_after_panics(&feed, Self::send_snapshots);
        restart_after_panics(&feed, Self::inspect_sessions);
        restart_after_panics(&feed, Self::send_drain);
        feed
    }

    /// Sends samples and changes. Never returns.
    async fn send_events(self: Rc<Self>) {
        let mut changes = self.slot.current().process.degradation.subscribe();
        // Changes before the subscription are in the snapshots of all watchers.
        self.sequence.set(self.sequence.get().max(changes.borrow_and_update().sequence));
        let mut ticks = interval_at((clock::now() + POINT_EVERY).into(), POINT_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let is_tick = tokio::select! {
                _ = ticks.tick() => true,
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    false
                }
            };
            let list = Arc::clone(&changes.borrow_and_update());
            self.send_change(&list);
            if is_tick {
                self.take_sample(clock::now());
            }
            self.log_dropped();
        }
    }

    /// Sends the events that watchers do not have yet as one change.
    fn send_change(&self, list: &CauseList) {
        let sequence = self.sequence.replace(list.sequence);
        if list.sequence <= sequence {
            return;
        }
        let level = self.slot.current().shared.actors.monitor.level();
        self.hub.borrow_mut().send_change(&encode::change(list, sequence, level), clock::now());
    }

    fn take_sample(&self, now: Instant) {
        let worker = self.slot.current();
        let shared = &worker.shared;
        if self.configuration.replace(shared.number()) != shared.number() {
            self.follow_configuration(shared, now);
        }
        let second = now.saturating_duration_since(self.started).as_secs_f64().round() as u64;
        let passed = second.saturating_sub(self.second.replace(second));
        let missed = usize::try_from(passed.saturating_sub(1)).unwrap_or(usize::MAX);
        let (mut sampler, mut history) = (self.sampler.borrow_mut(), self.history.borrow_mut());
        let mut errors = self.errors.borrow_mut();
        errors.read(shared.process.degradation.refusals());
        let (values, wall) = (sampler.sample(shared, &errors, now), clock::wall());
        sampler.new_series().for_each(|series| history.add(series));
        history.push(&values, missed, wall);
        self.document.take();
        self.limits.borrow_mut().sample(shared, &errors, now);
        let mut hub = self.hub.borrow_mut();
        if hub.has_sample_watchers() {
            let sample = encode::sample(wall, history.names().zip(&values), Sampler::buckets(shared, now));
            hub.send_sample(&sample, now);
        }
        hub.tend_watchers(now);
        if shared.process.has_handed_over() {
            // The successor has the streams of those who ask again.
            hub.end_all_streams();
        }
    }

    /// Continues with the buckets and limits of another configuration. Every stream ends if a token has changed.
    fn follow_configuration(&self, shared: &Shared, now: Instant) {
        self.access.follow(shared);
        if self.token_changes.replace(self.access.token_changes()) != self.access.token_changes() {
            self.hub.borrow_mut().end_all_streams();
        }
        let errors = ErrorTally::new(shared);
        self.limits.borrow_mut().set_config(&shared.config);
        let mut sampler = self.sampler.borrow_mut();
        if !sampler.has_buckets_of(shared) {
            *sampler = Sampler::new(shared, &errors, now);
            self.history.borrow_mut().set_series(sampler.new_series());
        }
        self.errors.replace(errors);
    }

    /// Builds snapshots for watchers that wait for one. Never returns.
    async fn send_snapshots(self: Rc<Self>) {
        loop {
            self.snapshot_wanted.notified().await;
            let document = super::document(&self.slot.current().shared).await;
            self.hub.borrow_mut().send_snapshot(&document, clock::now());
            self.log_dropped();
            tokio::time::sleep(SNAPSHOT_PAUSE).await;
        }
    }

    /// Sends how far the drain is, with each phase and else once a second. After its result every stream ends.
    async fn send_drain(self: Rc<Self>) {
        let mut reports = self.slot.current().process.drain_report.subscribe();
        let mut sent: Option<(DrainPhase, Instant)> = None;
        while reports.changed().await.is_ok() {
            let Some(report) = reports.borrow_and_update().clone() else { continue };
            let now = clock::now();
            let is_recent = |at: Instant| now.saturating_duration_since(at) < POINT_EVERY;
            if sent.is_none_or(|(phase, at)| phase != report.phase || !is_recent(at)) {
                sent = Some((report.phase, now));
                self.hub.borrow_mut().send_drain(&drain::document(&report, now), now);
            }
            if report.cut_off.is_some() {
                self.hub.borrow_mut().finish_all_streams();
            }
        }
    }

    /// Asks the session cache for its size now and then. Never returns.
    async fn inspect_sessions(self: Rc<Self>) {
        loop {
            let report = self.slot.current().shared.actors.sessions.inspect().await.ok();
            self.limits.borrow_mut().set_sessions(report);
            tokio::time::sleep(SESSIONS_EVERY).await;
        }
    }

    /// The last hour of a limit by its key; none if the key is no limit.
    pub(in crate::admin) fn last_hour(&self, key: &str) -> Option<LastHour> {
        self.limits.borrow().last_hour(key)
    }

    /// Ends the streams of these sessions at once.
    pub(in crate::admin) fn end_streams(&self, has_ended: impl Fn(&Session) -> bool) {
        self.hub.borrow_mut().end_streams(has_ended);
    }

    fn log_dropped(&self) {
        let dropped = self.hub.borrow_mut().take_dropped();
        if dropped > 0 {
            info!(self.slot.current().process.log, "watchers of the status stream were disconnected because they did not read";
                "count" => dropped, "hint" => "they resume with their last event ID; find out why they are slow");
        }
    }

    /// Reads the history.
    pub(in crate::admin::status) fn read_history<T>(&self, read: impl FnOnce(&History) -> T) -> T {
        read(&self.history.borrow())
    }

    /// The history document of these series.
    fn history_document(&self, filter: &HistoryFilter<'_>) -> Result<Bytes, InvalidParameter> {
        let history = self.history.borrow();
        if let Some(unknown) = filter.unknown(&history) {
            let fault = format!(
                "not a list of series: there is none named `{unknown}`; /status/history has all names"
            );
            return Err(invalid("series", fault));
        }
        match filter {
            HistoryFilter::All => {
                Ok(self.document.borrow_mut().get_or_insert_with(|| history.document(filter)).clone())
            }
            HistoryFilter::Names(_) => Ok(history.document(filter)),
        }
    }
}

/// Runs a task of the feed, and again after a panic. The panic is in the log.
fn restart_after_panics<F: Future<Output = ()> + 'static>(
    feed: &Rc<StatusFeed>,
    task: fn(Rc<StatusFeed>) -> F,
) {
    let feed = Rc::clone(feed);
    actix_rt::spawn(async move {
        while actix_rt::spawn(task(Rc::clone(&feed))).await.is_err_and(|ended| ended.is_panic()) {
            error!(feed.slot.current().process.log, "a task of the status stream panicked and starts again";
                "hint" => "this is a defect: report the panic in the log before this line");
            tokio::time::sleep(RESTART_PAUSE).await;
        }
    });
}

/// `GET /status/stream?samples=`. Only its first event is a snapshot, unless `Last-Event-ID` names an event to resume from.
pub(crate) async fn events(
    request: HttpRequest,
    CurrentWorker(worker): CurrentWorker,
    feed: Data<Rc<StatusFeed>>,
) -> HttpResponse {
    let has_samples =
        match Parameters::parse(request.query_string(), &OF_STREAM).and_then(|query| wants_samples(&query)) {
            Ok(has_samples) => has_samples,
            Err(error) => return invalid_parameter(&request, &error),
        };
    let (ticket, progress) = {
        let extensions = request.extensions();
        (extensions.get::<Rc<ConnectionTicket>>().cloned(), extensions.get::<Rc<SendProgress>>().cloned())
    };
    if let Some(max) = ticket.and_then(|ticket| ticket.become_stream().err()) {
        return AdminRejection::TooManyWatchers(max)
            .reply(&request_id::of(HeaderView::of(request.headers())));
    }
    let session = request.extensions().get::<StreamSession>().copied();
    let last_id = request.headers().get(LAST_EVENT_ID).and_then(|id| id.to_str().ok()?.trim().parse().ok());
    let watcher = feed.hub.borrow_mut().add_watcher(last_id, (has_samples, session), progress, clock::now());
    if watcher.awaits_snapshot() {
        feed.snapshot_wanted.notify_one();
    }
    let mut response =
        event_stream_reply(EventBody::new(watcher, Some(worker.process.status_streams.count())));
    // nginx must not collect the events.
    response.headers_mut().insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    // The connection counts as a stream, not as one that may have further requests.
    close_after(&mut response);
    response
}

fn wants_samples(query: &Parameters) -> Result<bool, InvalidParameter> {
    match query.text("samples") {
        None | Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(_) => Err(invalid("samples", "neither true nor false")),
    }
}

/// `GET /status/history?series=`.
pub(crate) async fn history(request: HttpRequest, feed: Data<Rc<StatusFeed>>) -> HttpResponse {
    let document = Parameters::parse(request.query_string(), &OF_HISTORY)
        .and_then(|query| feed.history_document(&HistoryFilter::parse(query.text("series"))));
    match document {
        Ok(document) => encoded_json_reply(document),
        Err(error) => invalid_parameter(&request, &error),
    }
}

/// A megabyte and a half is little beside what requests need.
const _: () = assert!(MEMORY_MAX < 3 << 19);
