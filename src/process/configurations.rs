//! The current configuration of the process, and how another one replaces it.
//!
//! A request ends with the configuration it began with. So all threads switch between two requests, each on its own, and a replaced
//! configuration lives on until its last request has ended. Then it is retired, and its number is sent to the gateway.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tidegate_actors::{KeyId, Launch, Launches};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Mutex, oneshot};

use super::Shared;
use crate::buffers::revocation::KeyringNumber;

/// A command to a worker thread. The thread drops or uses the sender when it is done.
pub(crate) enum ThreadCommand {
    /// Start these actors.
    Start(Vec<Launch>, oneshot::Sender<()>),
    /// Serve new requests with this configuration.
    Switch(Arc<Shared>, oneshot::Sender<()>),
    /// Cut the streams of withdrawn keys.
    CutWithdrawn(WithdrawnKeys),
    /// Use the sender, to show that the thread works.
    Answer(oneshot::Sender<()>),
}

/// Keys that a reload has withdrawn. Their streams end after the grace.
#[derive(Debug, Clone)]
pub(crate) struct WithdrawnKeys {
    pub(crate) keys: Arc<[KeyId]>,
    /// The keyring that lacks them.
    pub(crate) by: KeyringNumber,
    pub(crate) grace: Duration,
}

/// The current configuration, and the threads that serve with it.
pub(crate) struct Configurations {
    current: ArcSwap<Shared>,
    /// Those of the data listener, then the admin thread.
    threads: Vec<UnboundedSender<ThreadCommand>>,
    /// Held by a reload and by the hand-over of an upgrade, so that the exported state is that of the last configuration.
    pub(crate) change: Mutex<()>,
}

impl Configurations {
    pub(crate) fn new(first: Arc<Shared>, threads: Vec<UnboundedSender<ThreadCommand>>) -> Self {
        Self { current: ArcSwap::new(first), threads, change: Mutex::default() }
    }

    /// The configuration that new requests are served with. Hold it only for a moment: it retires when the last user has dropped it.
    pub(crate) fn current(&self) -> Arc<Shared> {
        self.current.load_full()
    }

    /// Makes `next` the current configuration. Its new actors start first, on the threads of the data listener.
    /// Returns when every thread serves its new requests with it. A thread that has ended is left out.
    pub(crate) async fn install(&self, next: Arc<Shared>, launches: Launches) {
        let data_threads = self.threads.len().saturating_sub(1);
        let new_actors = self
            .threads
            .iter()
            .zip(launches.distribute(data_threads))
            .filter(|(_, launches)| !launches.is_empty());
        let started = new_actors.map(|(thread, launches)| {
            let (done, is_done) = oneshot::channel();
            let _ = thread.send(ThreadCommand::Start(launches, done));
            is_done
        });
        for is_done in started.collect::<Vec<_>>() {
            let _ = is_done.await;
        }
        self.current.store(Arc::clone(&next));
        let switched = self.threads.iter().map(|thread| {
            let (done, is_done) = oneshot::channel();
            let _ = thread.send(ThreadCommand::Switch(Arc::clone(&next), done));
            is_done
        });
        for is_done in switched.collect::<Vec<_>>() {
            let _ = is_done.await;
        }
    }

    /// Requests an answer of each thread: those of the data listener, then the admin thread. The receiver fails if the thread has ended.
    pub(crate) fn request_answers(&self) -> Vec<oneshot::Receiver<()>> {
        let request = |thread: &UnboundedSender<ThreadCommand>| {
            let (answer, answered) = oneshot::channel();
            let _ = thread.send(ThreadCommand::Answer(answer));
            answered
        };
        self.threads.iter().map(request).collect()
    }

    /// Cuts the streams of withdrawn keys on every thread.
    pub(crate) fn cut_withdrawn(&self, withdrawn: &WithdrawnKeys) {
        for thread in &self.threads {
            let _ = thread.send(ThreadCommand::CutWithdrawn(withdrawn.clone()));
        }
    }
}
