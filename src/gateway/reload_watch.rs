//! Requests a reload when the content of the configuration's files has changed (`reload.watch`).
//!
//! The files are read beside the requests of clients. A refused reload is logged with each of its problems and is not repeated until the
//! content changes again. Content that gives the same configuration is no event, such as the first reading after a start. A reload can
//! change the settings and the files.

use std::path::PathBuf;

use tidegate_config::{ContentWatch, ReloadConfig};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::reload_requests::ReloadSender;

/// The settings of the current configuration, and its files.
#[derive(Clone)]
pub(super) struct WatchedFiles {
    pub(super) config: ReloadConfig,
    pub(super) files: Vec<PathBuf>,
}

/// Starts the task. It ends with the sender of `watched`.
pub(super) fn start(watched: watch::Receiver<WatchedFiles>, requests: ReloadSender) -> JoinHandle<()> {
    actix_rt::spawn(run(watched, requests))
}

/// Reads the files at each interval while `reload.watch` is on, and requests a reload for new content.
async fn run(mut watched: watch::Receiver<WatchedFiles>, requests: ReloadSender) {
    let mut content = ContentWatch::default();
    loop {
        let WatchedFiles { config, files } = watched.borrow_and_update().clone();
        if !config.watch {
            content = ContentWatch::default();
            if watched.changed().await.is_err() {
                return;
            }
            continue;
        }
        let polled = tokio::task::spawn_blocking(move || {
            let is_new = content.poll(&files);
            (content, is_new)
        });
        // A panic is logged already, and the comparison begins anew.
        let (polled, is_new) = polled.await.unwrap_or_default();
        content = polled;
        if is_new {
            requests.request();
        }
        tokio::select! {
            () = tokio::time::sleep(config.interval) => {}
            changed = watched.changed() => if changed.is_err() { return },
        }
    }
}
