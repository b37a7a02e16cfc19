//! Pings the watchdog of the service manager while the process works.
//!
//! A ping is sent at half of the watchdog's interval, after every thread that serves (workers, admin, acceptor) has answered and the
//! monitor has taken a sample since the last ping. A thread that hangs therefore ends the pings, and the service manager restarts the
//! process. The task runs on the main thread, so a main thread that hangs ends them too.

use std::sync::Arc;
use std::time::Duration;

use slog::{Logger, info, warn};
use tidegate_actors::{MonitorHandle, clock};
use tokio::sync::oneshot;
use tokio::time::{sleep_until, timeout_at};

use super::RunningGateway;
use crate::process::configurations::Configurations;
use crate::service_manager::ServiceManager;
use crate::telemetry::millis;

/// One thread, or the monitor, that has not answered yet.
struct PendingAnswer {
    name: String,
    answer: oneshot::Receiver<()>,
}

impl RunningGateway {
    /// Starts the pings, if the service manager has a watchdog for this process. They end before the threads stop.
    pub fn start_watchdog(&mut self, service: &ServiceManager) {
        let Some(interval) = service.watchdog() else { return };
        let (configurations, acceptor) = (Arc::clone(&self.configurations), self.server.acceptor_check());
        let shared = configurations.current();
        let (log, sample) = (shared.process.log.clone(), shared.config.monitor.interval);
        if interval < 2 * sample {
            let (interval, sample) = (millis(interval), millis(sample));
            warn!(log, "the watchdog of the service manager is too short for monitor.interval_ms";
                "detail" => format!("WatchdogSec= is {interval} ms, less than twice monitor.interval_ms, {sample} ms: a ping needs a sample of the monitor"),
                "hint" => format!("set WatchdogSec= to more than {} ms, or monitor.interval_ms to less than {} ms", 2 * sample, interval / 2));
        }
        info!(log, "the watchdog of the service manager is on"; "interval_ms" => millis(interval));
        let answers = move || {
            let mut pending = request_answers(&configurations);
            pending.push(PendingAnswer { name: "acceptor".to_owned(), answer: acceptor() });
            pending
        };
        self.background_tasks.push(actix_rt::spawn(run(answers, service.clone(), interval / 2, log)));
    }
}

/// Requests an answer of each worker thread, of the admin thread, and of the monitor.
fn request_answers(configurations: &Configurations) -> Vec<PendingAnswer> {
    let answers = configurations.request_answers();
    let admin = answers.len().saturating_sub(1);
    let name = |at: usize| if at == admin { "admin".to_owned() } else { format!("data worker {at}") };
    let pending = |(at, answer)| PendingAnswer { name: name(at), answer };
    let mut pending: Vec<_> = answers.into_iter().enumerate().map(pending).collect();
    let answer = next_sample(&configurations.current().actors.monitor);
    pending.push(PendingAnswer { name: "monitor".to_owned(), answer });
    pending
}

/// Answers with the next sample of the monitor.
fn next_sample(monitor: &MonitorHandle) -> oneshot::Receiver<()> {
    let mut views = monitor.subscribe();
    views.mark_unchanged();
    let (sampled, answer) = oneshot::channel();
    actix_rt::spawn(async move {
        if views.changed().await.is_ok() {
            // The receiver may have given up.
            let _ = sampled.send(());
        }
    });
    answer
}

/// Pings once in each period. Returns when a thread has ended: the process is about to stop then.
async fn run(
    request: impl Fn() -> Vec<PendingAnswer>,
    service: ServiceManager,
    period: Duration,
    log: Logger,
) {
    loop {
        let began = clock::now();
        let due = (began + period).into();
        let mut pending = request();
        let mut is_alive = timeout_at(due, all_answered(&mut pending)).await;
        if is_alive.is_err() {
            warn!(log, "threads do not answer, so the watchdog of the service manager gets no ping"; "waits_for" => unanswered(&mut pending),
                "hint" => "the service manager restarts the process at the end of its WatchdogSec=; raise it if the machine has no free CPU time");
            is_alive = Ok(all_answered(&mut pending).await);
        }
        if is_alive != Ok(true) {
            return;
        }
        service.ping();
        sleep_until(due).await;
    }
}

/// Waits for all answers. False if a thread has ended.
async fn all_answered(pending: &mut Vec<PendingAnswer>) -> bool {
    while let Some(next) = pending.last_mut() {
        if (&mut next.answer).await.is_err() {
            return false;
        }
        pending.pop();
    }
    true
}

/// Removes those that have answered, and returns the names of the others.
fn unanswered(pending: &mut Vec<PendingAnswer>) -> String {
    // The sender of a thread that has ended is gone; `all_answered` detects that.
    pending.retain_mut(|pending| pending.answer.try_recv().is_err());
    let names: Vec<_> = pending.iter().map(|pending| pending.name.as_str()).collect();
    names.join(", ")
}
