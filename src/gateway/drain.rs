//! Stops a running gateway (G4, O5).
//!
//! | phase | listeners | answers | idle connections |
//! |---|---|---|---|
//! | `Serving` | accept | keep the connection | stay for `keep_alive` |
//! | `HandedOver`, after an upgrade, for `keep_alive` | are the successor's | as `Draining` | stay: their next answer closes them |
//! | `Draining`, for `drain_delay` | accept; `/readyz` answers 503 | `connection: close`, GOAWAY | stay: their next answer closes them |
//! | `Closing`, for at most `drain_timeout` | the data listener is closed | the same | close |
//! | `CuttingOff` | the same | are cut off with the reason `drain_timeout` | |
//!
//! A connection without a request yet is not idle: it may have waited in the backlog, so it stays open for [`FIRST_REQUEST_TIME`]. The
//! admin listener accepts until the worker threads stop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use slog::{info, warn};
use tidegate_actors::clock;
use tokio::task::JoinHandle;

use super::handed_over::{ProgressReports, idle_time, wait_for_admin_replies};
use super::reload::Reload;
use super::upgrade_requests::Upgrade;
use super::{DATA, RunningGateway};
use crate::process::{DrainPhase, Shared};
use crate::server::open_connections;
use crate::telemetry::millis;

const DRAIN_POLL: Duration = Duration::from_millis(10);
/// The longest wait for the worker threads to stop. They only drop what they hold, which writes the last log lines. Only a busy machine,
/// on which they get the CPU late, needs so long.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the process must stop without a signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopCause {
    /// A worker thread has ended unexpectedly, which only a defect causes. The actors of the thread are lost, so the process must be
    /// restarted.
    WorkerEnded(String),
    /// The successor of an upgrade serves.
    HandedOver {
        /// Its process ID.
        successor: u32,
    },
}

/// Requests and connections that are left at the end of a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unfinished {
    requests: usize,
    connections: usize,
    /// Bytes of finished answers that clients have not received. Such an answer holds no slot, so it is not in `requests`.
    unsent_bytes: u64,
}

impl Unfinished {
    /// Requests and answers that are cut off.
    fn cut_off(&self) -> usize {
        self.requests.max(usize::from(self.unsent_bytes > 0))
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

    /// Waits until this process must stop without a signal.
    pub async fn must_stop(&mut self) -> StopCause {
        tokio::select! {
            thread = self.server.worker_ended() => StopCause::WorkerEnded(thread),
            // The sender ends with the gateway only.
            Ok(done) = &mut self.after.handed_over, if self.successor.is_none() => {
                let cause = StopCause::HandedOver { successor: done.pid };
                self.successor = Some(done);
                cause
            }
        }
    }

    /// Ends the time that idle connections have after an upgrade.
    pub fn end_idle_time(&self) -> impl Fn() + use<> {
        let idle_end = Arc::clone(&self.after.idle_end);
        move || idle_end.notify_one()
    }

    /// Drains and stops. Returns the number of requests and answers that were cut off.
    pub async fn stop(self) -> usize {
        let Self { configurations, server, open, background_tasks, after, successor, .. } = self;
        let began = clock::now();
        let shared = configurations.current();
        let process = Arc::clone(&shared.process);
        let has_handed_over = process.has_handed_over();
        let delay = if has_handed_over { idle_time(&shared) } else { shared.config.server.drain_delay };
        if !has_handed_over {
            let _ = process.drain_began.set(began);
            process.drain.send_replace(DrainPhase::Draining);
        }
        info!(process.log, "draining"; "in_flight" => shared.actors.monitor.in_flight(),
            "connections" => open_connections(&open), "delay_ms" => millis(delay));
        let mut reports = None;
        if has_handed_over {
            // Without its result a signal has come since the hand-over.
            let is_over = successor.is_none();
            let done = match successor {
                None => after.handed_over.await.ok(),
                done => done,
            };
            reports = done.map(|done| ProgressReports::start(done.channel, &configurations, open.clone()));
            tokio::select! {
                _ = wait_until_drained(&shared, || open_connections(&open), began + delay), if !is_over => {}
                () = after.idle_end.notified(), if !is_over => {}
                else => {}
            }
        } else {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            server.close(DATA).await;
        }
        process.drain.send_replace(DrainPhase::Closing);
        let deadline = clock::now() + shared.config.server.drain_timeout;
        let unfinished = wait_until_drained(&shared, || open_connections(&open), deadline).await;
        if unfinished.requests > 0 || unfinished.connections > 0 {
            warn!(process.log, "drain timeout reached: unfinished requests and connections are cut off"; "cut_off" => unfinished.cut_off(),
                "connections" => unfinished.connections, "unsent_bytes" => unfinished.unsent_bytes,
                "hint" => "raise server.drain_timeout if requests need longer");
        }
        if has_handed_over {
            wait_for_admin_replies(&after.admin_open).await;
        }
        process.drain.send_replace(DrainPhase::CuttingOff);
        background_tasks.iter().for_each(JoinHandle::abort);
        server.stop(STOP_TIMEOUT).await;
        drop(reports);
        let elapsed = clock::now().saturating_duration_since(began);
        info!(process.log, "stopped"; "took_ms" => millis(elapsed));
        unfinished.cut_off()
    }
}

/// Waits until no request and no connection is left, at most until the deadline.
async fn wait_until_drained(
    shared: &Shared,
    connections: impl Fn() -> usize,
    deadline: Instant,
) -> Unfinished {
    loop {
        let requests = shared.actors.monitor.in_flight();
        let left = Unfinished {
            requests,
            connections: connections(),
            unsent_bytes: shared.process.send_buffer.get(),
        };
        if (left.requests == 0 && left.connections == 0) || clock::now() >= deadline {
            return left;
        }
        tokio::time::sleep(DRAIN_POLL).await;
    }
}
