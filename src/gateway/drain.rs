//! Stops a running gateway (G4, O5).
//!
//! | phase | listeners | answers | idle connections |
//! |---|---|---|---|
//! | `Serving` | accept | keep the connection | stay for `keep_alive` |
//! | `HandedOver`, after an upgrade, for `keep_alive` | are the successor's | as `Draining` | stay: their next answer closes them |
//! | `Draining`, for `drain_delay` | accept; `/readyz` answers 503 | `connection: close`, GOAWAY | stay: their next answer closes them |
//! | `Closing`, for at most `drain_timeout` | the data listener is closed | the same | close |
//! | `EndingStreams`, for at most [`STREAM_END_MAX`] | the same | event streams end with the end of their protocol | the same |
//! | `CuttingOff` | the same | are cut off with the reason `drain_timeout` | |
//!
//! A connection without a request yet is not idle: it may have waited in the backlog, so it stays open for [`FIRST_REQUEST_TIME`]. The
//! admin listener accepts until the worker threads stop. Its event streams get the result of the drain as their last event.
//! `drain_tracker.rs` collects and logs the progress.

use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use slog::{info, warn};
use tidegate_actors::clock;
use tokio::task::JoinHandle;

use super::drain_tracker::DrainTracker;
use super::handed_over::{ProgressReports, idle_time};
use super::reload::Reload;
use super::upgrade_requests::Upgrade;
use super::{DATA, RunningGateway};
use crate::process::drain_report::DrainCause;
use crate::process::{DrainPhase, Process};
use crate::telemetry::millis;
use crate::upstream::response::event_stream::BOUNDARY_MAX;

const DRAIN_POLL: Duration = Duration::from_millis(10);
/// The longest time that event streams need to end: they wait for the boundary of an event, then their clients take the end.
const STREAM_END_MAX: Duration = BOUNDARY_MAX.saturating_add(Duration::from_millis(250));
/// The longest wait for the close of the data listener. Its backlog is served within little more than a second.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest wait for the worker threads to stop. They only drop what they hold, which writes the last log lines. Only a busy machine,
/// on which they get the CPU late, needs so long.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the process stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopCause {
    /// SIGTERM or SIGINT.
    Signal,
    /// A request to the admin listener.
    Request,
    /// A worker thread has ended unexpectedly, which only a defect causes. The actors of the thread are lost, so the process must be
    /// restarted.
    WorkerEnded(String),
    /// The successor of an upgrade serves.
    HandedOver,
}

impl StopCause {
    fn of_drain(&self) -> DrainCause {
        match self {
            Self::Signal => DrainCause::Signal,
            Self::Request => DrainCause::Request,
            Self::WorkerEnded(_) => DrainCause::ThreadEnded,
            Self::HandedOver => DrainCause::HandedOver,
        }
    }
}

/// How a drain has ended.
#[derive(Debug, Clone, Copy)]
pub struct StopResult {
    /// The number of requests and answers that were cut off.
    pub cut_off: usize,
    /// How the successor of an upgrade has ended, if it has ended before this process.
    pub successor: Option<ExitStatus>,
}

/// Requests to drain that the admin listener has accepted.
#[derive(Clone)]
pub struct DrainRequested(Arc<Process>);

impl DrainRequested {
    /// Waits for a request.
    pub async fn next(&self) {
        self.0.drain_requests.requested().await;
    }
}

impl RunningGateway {
    /// The handle for reloads. It works also while the gateway drains.
    #[must_use]
    pub fn reload(&self) -> Reload {
        self.reload.clone()
    }

    /// The handle for upgrades.
    #[must_use]
    pub fn upgrade(&self) -> Upgrade {
        self.upgrade.clone()
    }

    /// The handle for requests to drain.
    #[must_use]
    pub fn drain_requested(&self) -> DrainRequested {
        DrainRequested(Arc::clone(&self.configurations.current().process))
    }

    /// Waits until this process must stop without a request.
    pub async fn must_stop(&mut self) -> StopCause {
        tokio::select! {
            thread = self.server.worker_ended() => StopCause::WorkerEnded(thread),
            // The sender ends with the gateway only.
            Ok(successor) = &mut self.after.done, if self.successor.is_none() => {
                self.successor = Some(successor);
                StopCause::HandedOver
            }
        }
    }

    /// The process ID of the successor, once it serves. A stop may come immediately before the result of the upgrade, which this waits for,
    /// for a bounded time.
    pub async fn successor(&mut self) -> Option<u32> {
        let process = Arc::clone(&self.configurations.current().process);
        if process.has_handed_over() && self.successor.is_none() && !self.after.is_early {
            self.after.is_early = true;
            self.successor = self.after.result(process.drain.subscribe()).await;
        }
        Some(process.successor.load(Ordering::Relaxed)).filter(|pid| *pid != 0)
    }

    /// Ends the time that idle connections have after an upgrade.
    pub fn end_idle_time(&self) -> impl Fn() + use<> {
        let idle_end = Arc::clone(&self.after.idle_end);
        move || idle_end.notify_one()
    }

    /// Drains and stops.
    pub async fn stop(mut self, cause: &StopCause) -> StopResult {
        let has_handed_over = self.successor().await.is_some();
        let Self { configurations, server, open, background_tasks, after, successor, .. } = self;
        let (began, shared) = (clock::now(), configurations.current());
        let (process, limit) = (Arc::clone(&shared.process), shared.config.server.drain_timeout);
        let delay = if has_handed_over { idle_time(&shared) } else { shared.config.server.drain_delay };
        drop(shared);
        let open_of_reports = open.clone();
        let mut tracker = DrainTracker::new(&configurations, open, cause.of_drain(), began + delay + limit);
        let mut reports = None;
        if has_handed_over {
            tracker.begin(DrainPhase::HandedOver, delay);
            reports = successor.map(|one| ProgressReports::start(one, &configurations, open_of_reports));
            if !after.is_early {
                after.wait_for_idle(&mut tracker, began + delay).await;
            }
        } else {
            tracker.begin(DrainPhase::Draining, delay);
            tracker.wait_until(began + delay, |_| false).await;
            // The connections in the backlog need the limits that an upgrade has lowered.
            let closing = async {
                drop(process.hand_over_lock.lock().await);
                server.close(DATA).await;
            };
            // An acceptor that hangs must not hold up the stop.
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, closing).await;
        }
        tracker.set_phase(DrainPhase::Closing);
        // The time in which the backlog was accepted does not count.
        tracker.set_deadline(clock::now() + limit);
        tracker.wait_until(tracker.deadline(), DrainTracker::is_done).await;
        if has_handed_over {
            after.wait_for_admin_replies().await;
        }
        let cut_off = end_drain(&mut tracker, &process).await;
        background_tasks.iter().for_each(JoinHandle::abort);
        server.stop(STOP_TIMEOUT).await;
        let successor = match reports {
            Some(reports) => reports.end().await,
            None => None,
        };
        let elapsed = clock::now().saturating_duration_since(began);
        info!(process.log, "stopped"; "took_ms" => millis(elapsed));
        StopResult { cut_off, successor }
    }
}

/// Ends event streams, and begins to cut off what is left. Returns how much that is.
async fn end_drain(tracker: &mut DrainTracker<'_>, process: &Process) -> usize {
    let streams = process.event_streams.open();
    if streams > 0 && !tracker.is_done() {
        tracker.set_phase(DrainPhase::EndingStreams);
        process.event_streams.end_all();
        let until = clock::now() + STREAM_END_MAX;
        tracker.wait_until(until, |_| process.event_streams.open() == 0).await;
        // Their last bytes are written before their threads answer.
        tracker.report();
        // Unless other requests are cut off, connections have the rest of the time to close.
        tracker.wait_until(until, |tracker| tracker.is_done() || tracker.requests() > 0).await;
    }
    let progress = tracker.report();
    let (cut_off, ended) = (progress.unfinished(), streams.saturating_sub(process.event_streams.open()));
    if ended > 0 {
        info!(process.log, "drain timeout reached: event streams have ended as their protocol does"; "streams" => ended);
    }
    if cut_off > 0 || (progress.connections > 0 && ended == 0) {
        warn!(process.log, "drain timeout reached: unfinished requests and connections are cut off"; "cut_off" => cut_off,
            "connections" => progress.connections, "streams" => progress.streams, "unsent_bytes" => progress.unsent_bytes,
            "oldest_ms" => progress.oldest_ms, "by_bucket" => progress.by_bucket(),
            "hint" => "raise server.drain_timeout if requests need longer");
    }
    tracker.end(cut_off);
    let until = clock::now() + STREAM_END_MAX;
    poll_until(until, || process.status_streams.open() == 0).await;
    cut_off
}

/// Waits until `is_done`, at most until the deadline.
async fn poll_until(deadline: Instant, is_done: impl Fn() -> bool) {
    while !is_done() && clock::now() < deadline {
        tokio::time::sleep(DRAIN_POLL).await;
    }
}
