//! The drain of a process after it has handed over to its successor (G8).
//!
//! The listening sockets are the successor's. Idle connections stay until their next answer closes them, or until `server.keep_alive` is
//! over: a client that uses a kept connection while it closes would see a failure. Then the rest has `server.drain_timeout`, as at a stop.
//! Meanwhile the successor gets the progress and this process's part of the limits ten times a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use slog::warn;
use tidegate_actors::clock;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::actors_handover::remaining_use;
use super::drain_tracker::DrainTracker;
use super::upgrade::HandedOver;
use crate::process::Shared;
use crate::process::configurations::Configurations;
use crate::process::drain_progress::drain_progress;
use crate::server::open_connections;
use crate::upgrade::channel::Channel;
use crate::upgrade::message::PredecessorMessage;

/// How often the successor gets a report.
const PROGRESS_PERIOD: Duration = Duration::from_millis(100);
/// An idle connection ends within this time after `server.keep_alive`.
const KEEP_ALIVE_SLACK: Duration = Duration::from_secs(1);
/// The longest time for the replies of the admin listener after the drain, such as that to the request to upgrade.
const ADMIN_REPLY_TIME: Duration = Duration::from_secs(1);
const ADMIN_POLL: Duration = Duration::from_millis(5);

/// What a process has after it handed over.
pub(super) struct AfterHandOver {
    /// The result of the upgrade.
    pub(super) handed_over: oneshot::Receiver<HandedOver>,
    /// A signal ends the time of idle connections.
    pub(super) idle_end: Arc<Notify>,
    /// Open connections of the admin listener.
    pub(super) admin_open: Arc<AtomicUsize>,
}

impl AfterHandOver {
    /// Waits while idle connections have time for another request, and reports to the successor from now on. A second signal ends the wait.
    pub(super) async fn wait_for_idle(
        &mut self,
        tracker: &mut DrainTracker<'_>,
        successor: Option<HandedOver>,
        until: Instant,
    ) -> Option<ProgressReports> {
        // Without its result a signal has come since the hand-over.
        let is_over = successor.is_none();
        let done = match successor {
            None => (&mut self.handed_over).await.ok(),
            done => done,
        };
        let (configurations, open) = (tracker.configurations(), tracker.open().to_vec());
        let reports = done.map(|done| ProgressReports::start(done.channel, configurations, open));
        if !is_over {
            tokio::select! {
                () = tracker.wait_until(until, DrainTracker::is_done) => {}
                () = self.idle_end.notified() => {}
            }
        }
        reports
    }

    /// Waits until the admin listener has no connection, or until its replies had their time.
    pub(super) async fn wait_for_admin_replies(&self) {
        let due = clock::now() + ADMIN_REPLY_TIME;
        while self.admin_open.load(Ordering::Relaxed) > 0 && clock::now() < due {
            tokio::time::sleep(ADMIN_POLL).await;
        }
    }
}

/// The reports to the successor. They end when this is dropped.
pub(super) struct ProgressReports(JoinHandle<()>);

impl Drop for ProgressReports {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl ProgressReports {
    pub(super) fn start(
        channel: Channel,
        configurations: &Arc<Configurations>,
        open: Vec<Arc<AtomicUsize>>,
    ) -> Self {
        let configurations = Arc::clone(configurations);
        Self(actix_rt::spawn(async move {
            loop {
                let message = progress(&configurations, open_connections(&open));
                if channel.send(&message, &[]).await.is_err() {
                    let log = &configurations.current().process.log;
                    warn!(log, "the successor has ended while this process drains"; "hint" => "start the gateway again");
                    return;
                }
                tokio::time::sleep(PROGRESS_PERIOD).await;
            }
        }))
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
