//! Requests a reload when the content of the configuration's files has changed (`reload.watch`).
//!
//! The files are read beside the requests of clients. A refused reload is logged with each of its problems and is not repeated until the
//! content changes again. Content that gives the same configuration is no event, such as the first reading after a start.

use std::path::PathBuf;
use std::sync::Arc;

use slog::{Logger, error, info};
use tidegate_config::{ContentWatch, ReloadConfig};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::admin::reload::{ReloadReply, ReloadRequests};
use crate::worker::Shared;

/// Starts the task, if `reload.watch` is on. `files` are those of the configuration.
pub(super) fn start(
    shared: &Shared,
    files: Vec<PathBuf>,
    requests: Arc<dyn ReloadRequests>,
) -> Option<JoinHandle<()>> {
    let (config, log) = (shared.config.reload.clone(), shared.log.clone());
    config.watch.then(|| actix_rt::spawn(run(config, files, requests, log)))
}

/// Reads the files at each interval, and requests a reload for new content.
async fn run(config: ReloadConfig, files: Vec<PathBuf>, requests: Arc<dyn ReloadRequests>, log: Logger) {
    let mut watch = ContentWatch::default();
    let mut interval = tokio::time::interval(config.interval);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let files = files.clone();
        let polled = tokio::task::spawn_blocking(move || {
            let is_new = watch.poll(&files);
            (watch, is_new)
        });
        // A panic is logged already, and the comparison begins anew.
        let (polled, is_new) = polled.await.unwrap_or_default();
        watch = polled;
        if is_new {
            log_reply(&requests.reload().await, &log);
        }
    }
}

fn log_reply(reply: &ReloadReply, log: &Logger) {
    match reply.result() {
        "unchanged" => {}
        "refused" => {
            for problem in &reply.problems {
                error!(log, "changed configuration refused, the one before it stays in use"; "key" => &problem.key,
                    "detail" => &problem.message, "source" => problem.source.to_string(), "line" => problem.line,
                    "hint" => problem.hint.as_deref());
            }
        }
        result => {
            info!(log, "changed configuration found"; "result" => result, "configuration" => reply.number,
            "changes" => reply.diff.iter().count())
        }
    }
}
