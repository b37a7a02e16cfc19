//! The open event streams of a listener, and the signal that ends them (G4).

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;

/// The open event streams of one listener.
pub(crate) struct EventStreams {
    open: Arc<AtomicUsize>,
    ending: watch::Sender<bool>,
}

impl Default for EventStreams {
    fn default() -> Self {
        Self { open: Arc::default(), ending: watch::Sender::new(false) }
    }
}

/// Counts an event stream until it is dropped.
pub(crate) struct OpenStream(Arc<AtomicUsize>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl EventStreams {
    /// Counts a stream.
    pub(crate) fn count(&self) -> OpenStream {
        self.open.fetch_add(1, Ordering::Relaxed);
        OpenStream(Arc::clone(&self.open))
    }

    /// The number of open streams.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Ends the streams that can end.
    pub(crate) fn end_all(&self) {
        self.ending.send_replace(true);
    }

    /// Returns when the streams are to end.
    pub(crate) fn ending(&self) -> impl Future<Output = ()> + use<> {
        let mut ending = self.ending.subscribe();
        async move {
            let _ = ending.wait_for(|is_ending| *is_ending).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// G4: streams are counted until they end
    #[test]
    fn open_streams_are_counted() {
        let streams = EventStreams::default();
        let (first, second) = (streams.count(), streams.count());
        assert_eq!(streams.open(), 2);
        drop(first);
        assert_eq!(streams.open(), 1);
        drop(second);
        assert_eq!(streams.open(), 0);
    }
}
