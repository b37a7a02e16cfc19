//! A client that the scheduler polls: its future, waker and thread.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::simulation::client_waker::ClientWaker;

/// A client in a scenario.
pub(super) struct RunningClient {
    pub(super) future: Pin<Box<dyn Future<Output = ()>>>,
    pub(super) waker: Arc<ClientWaker>,
    pub(super) thread: usize,
}

impl RunningClient {
    pub(super) fn new(
        future: impl Future<Output = ()> + 'static,
        waker: Arc<ClientWaker>,
        thread: usize,
    ) -> Self {
        Self { future: Box::pin(future), waker, thread }
    }
}
