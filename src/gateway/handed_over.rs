//! The drain of a process after it has handed over to its successor (G8).
//!
//! The listening sockets are the successor's. Idle connections stay until their next answer closes them, or until `server.keep_alive` is
//! over: a client that uses a kept connection while it closes would see a failure. Then the rest has `server.drain_timeout`, as at a stop.
//! Meanwhile the successor gets the progress and this process's part of the limits ten times a second. If it ends meanwhile, no process
//! accepts connections, which the exit code of this process shows.

use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use slog::{Logger, error, warn};
use tidegate_actors::clock;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;

use super::actors_handover::remaining_use;
use super::drain_tracker::DrainTracker;
use super::upgrade::{RESULT_TIME, ServingSuccessor};
use crate::process::configurations::Configurations;
use crate::process::drain_progress::drain_progress;
use crate::process::{DrainPhase, Shared};
use crate::server::open_connections;
use crate::upgrade::message::PredecessorMessage;

/// How often the successor gets a report.
const PROGRESS_PERIOD: Duration = Duration::from_millis(100);
/// An idle connection ends within this time after `server.keep_alive`.
const KEEP_ALIVE_SLACK: Duration = Duration::from_secs(1);
/// The longest time for the replies of the admin listener after the drain, such as that to the request to upgrade.
const ADMIN_REPLY_TIME: Duration = Duration::from_secs(1);
const ADMIN_POLL: Duration = Duration::from_millis(5);

/// What the drain of a predecessor needs.
pub(super) struct PredecessorDrain {
    /// The result of the upgrade that is done.
    pub(super) done: oneshot::Receiver<ServingSuccessor>,
    /// A stop has come before the result: idle connections get no time.
    pub(super) is_early: bool,
    /// A signal ends the time of idle connections.
    pub(super) idle_end: Arc<Notify>,
    /// Open connections of the admin listener.
    pub(super) admin_open: Arc<AtomicUsize>,
}

impl PredecessorDrain {
    pub(super) fn new(done: oneshot::Receiver<ServingSuccessor>, admin_open: Arc<AtomicUsize>) -> Self {
        Self { done, is_early: false, idle_end: Arc::default(), admin_open }
    }

    /// The result of an upgrade that has noted its successor as the process that serves: none if it took that back.
    pub(super) async fn result(
        &mut self,
        mut phases: watch::Receiver<DrainPhase>,
    ) -> Option<ServingSuccessor> {
        tokio::select! {
            biased;
            Ok(successor) = &mut self.done => Some(successor),
            _ = phases.wait_for(|phase| *phase != DrainPhase::HandedOver) => None,
            () = tokio::time::sleep(RESULT_TIME) => None,
        }
    }

    /// Waits while idle connections have time for another request. A second signal ends the wait.
    pub(super) async fn wait_for_idle(&self, tracker: &mut DrainTracker<'_>, until: Instant) {
        tokio::select! {
            () = tracker.wait_until(until, DrainTracker::is_done) => {}
            () = self.idle_end.notified() => {}
        }
    }

    /// Waits until the admin listener has no connection, or until its replies had their time.
    pub(super) async fn wait_for_admin_replies(&self) {
        let due = clock::now() + ADMIN_REPLY_TIME;
        while self.admin_open.load(Ordering::Relaxed) > 0 && clock::now() < due {
            tokio::time::sleep(ADMIN_POLL).await;
        }
    }
}

/// The reports to the successor.
pub(super) struct ProgressReports {
    task: JoinHandle<Option<ExitStatus>>,
    /// Its drop ends the reports.
    running: oneshot::Sender<()>,
}

impl ProgressReports {
    pub(super) fn start(
        successor: ServingSuccessor,
        configurations: &Arc<Configurations>,
        open: Vec<Arc<AtomicUsize>>,
    ) -> Self {
        let (running, ended) = oneshot::channel();
        let (log, configurations) =
            (configurations.current().process.log.clone(), Arc::clone(configurations));
        let report = move || progress(&configurations, open_connections(&open));
        Self { task: actix_rt::spawn(run(successor, report, log, ended)), running }
    }

    /// Ends the reports. Returns how the successor has ended, if it has.
    pub(super) async fn end(self) -> Option<ExitStatus> {
        drop(self.running);
        self.task.await.ok().flatten()
    }
}

/// Reports until `drain_ended`, or until the successor has ended. Returns how it has ended.
async fn run(
    successor: ServingSuccessor,
    report: impl Fn() -> PredecessorMessage,
    log: Logger,
    mut drain_ended: oneshot::Receiver<()>,
) -> Option<ExitStatus> {
    let ServingSuccessor { mut process, channel, .. } = successor;
    let reporting = async {
        while channel.send(&report(), &[]).await.is_ok() {
            tokio::time::sleep(PROGRESS_PERIOD).await;
        }
    };
    let closed = tokio::select! {
        () = reporting => true,
        _ = &mut drain_ended => false,
    };
    let mut status = if closed { process.ends_soon().await } else { process.ended() };
    if closed && status.is_none() {
        warn!(log, "the successor reads no reports of this process"; "pid" => process.pid(),
            "hint" => "its limits are lower than configured until this process has ended");
        let _ = drain_ended.await;
        status = process.ended();
    }
    log_end(&log, process.pid(), status?);
    status
}

/// Logs the end of the successor. No process accepts connections then.
fn log_end(log: &Logger, pid: u32, status: ExitStatus) {
    match status.success() {
        true => {
            warn!(log, "the successor was stopped while this process drains"; "pid" => pid, "hint" => "start the gateway again");
        }
        false => {
            error!(log, "the successor has ended while this process drains"; "pid" => pid, "detail" => status.to_string(),
                "hint" => "no process accepts connections: start the gateway again; the log lines of the successor have the cause");
        }
    }
}

fn progress(configurations: &Configurations, connections: usize) -> PredecessorMessage {
    let shared = configurations.current();
    let (drain, limits) = (drain_progress(&shared, connections), remaining_use(&shared, connections));
    PredecessorMessage::Progress { drain, limits }
}

/// The time that idle connections have for another request.
pub(super) fn idle_time(shared: &Shared) -> Duration {
    shared.config.server.keep_alive + KEEP_ALIVE_SLACK
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain() -> (PredecessorDrain, oneshot::Sender<ServingSuccessor>) {
        let (sender, done) = oneshot::channel();
        (PredecessorDrain::new(done, Arc::default()), sender)
    }

    /// G8, G4: a stop that comes while the hand-over is taken back does not wait for a result; without any it waits for a bounded time
    #[tokio::test(start_paused = true)]
    async fn a_stop_waits_for_no_result_that_never_comes() {
        let (mut drain, _sender) = drain();
        let phases = watch::Sender::new(DrainPhase::HandedOver);
        let began = tokio::time::Instant::now();
        let (successor, _) =
            tokio::join!(drain.result(phases.subscribe()), async { phases.send(DrainPhase::Serving) });
        assert!(successor.is_none() && began.elapsed().is_zero());
        phases.send_replace(DrainPhase::HandedOver);
        assert!(drain.result(phases.subscribe()).await.is_none());
        assert!(began.elapsed() >= RESULT_TIME && began.elapsed() < RESULT_TIME * 2);
    }
}
