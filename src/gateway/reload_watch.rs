//! Requests a reload when the content of the configuration's files has changed (`reload.watch`).
//!
//! The files are read beside the requests of clients. A refused reload is logged with each of its problems and is not repeated until the
//! content changes again. Content that gives the same configuration is no event, such as the first reading after a start.

use std::path::PathBuf;

use tidegate_config::{ContentWatch, ReloadConfig};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::reload_requests::ReloadSender;
use crate::process::Shared;

/// Starts the task, if `reload.watch` is on. `files` are those of the configuration.
pub(super) fn start(shared: &Shared, files: Vec<PathBuf>, requests: ReloadSender) -> Option<JoinHandle<()>> {
    let config = shared.config.reload.clone();
    config.watch.then(|| actix_rt::spawn(run(config, files, requests)))
}

/// Reads the files at each interval, and requests a reload for new content.
async fn run(config: ReloadConfig, files: Vec<PathBuf>, requests: ReloadSender) {
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
            requests.request();
        }
    }
}
