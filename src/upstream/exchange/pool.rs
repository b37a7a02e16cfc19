//! The idle connections of one worker thread to one endpoint.
//!
//! The newest idle connection is used first, so that connections beyond the need become old and close. An idle connection is checked
//! before it is used: one that is closed or readable is gone. `max_idle` holds for all workers together. The gate of the bucket limits
//! the connections in use, so a request never waits here.
//!
//! Connections with different TLS server names are never exchanged (`tls.sni`). A connection that serves one request is neither taken
//! from the pool nor returned to it.
//!
//! Design: `docs/design/connections.md`.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::future::LocalBoxFuture;
use tidegate_actors::clock;

use crate::buffers::BufferRetention;
use crate::upstream::connect::stream::UpstreamStream;
use crate::upstream::exchange::connection::{
    ConnectionCounts, Counted, UpstreamConnection, UpstreamTransport,
};
use crate::upstream::exchange::response_head::ResponseHeadLimits;

/// The rules of a pool.
#[derive(Debug, Clone)]
pub(crate) struct PoolSettings {
    /// The most idle connections of the bucket, on all workers.
    pub(crate) idle_max: usize,
    pub(crate) idle_timeout: Duration,
    /// The maximum age of a connection. None: unlimited.
    pub(crate) lifetime: Option<Duration>,
    pub(crate) connect_timeout: Duration,
    pub(crate) head_limits: ResponseHeadLimits,
    pub(crate) retention: BufferRetention,
}

/// Opens a connection to the endpoint. The argument is the bucket in the TLS server name, or empty.
pub(super) type Connect<S> = dyn Fn(Box<str>) -> LocalBoxFuture<'static, io::Result<S>>;

/// The connections of one worker thread to one endpoint.
pub(crate) struct EndpointPool<S = UpstreamStream> {
    connect: Box<Connect<S>>,
    pub(super) settings: PoolSettings,
    pub(super) counts: ConnectionCounts,
    /// The newest last.
    idle: RefCell<Vec<IdleConnection<S>>>,
    /// The number of times that its connections were closed on request. A connection from before is not returned.
    closings: Cell<u32>,
}

struct IdleConnection<S> {
    connection: Box<UpstreamConnection<S>>,
    _idle: Counted,
    /// When it closes.
    until: Instant,
}

/// A connection in use.
pub(super) struct PooledConnection<S> {
    pub(super) connection: Box<UpstreamConnection<S>>,
    closings: u32,
}

impl<S: UpstreamTransport> EndpointPool<S> {
    pub(crate) fn new(
        settings: PoolSettings,
        counts: ConnectionCounts,
        connect: impl Fn(Box<str>) -> LocalBoxFuture<'static, io::Result<S>> + 'static,
    ) -> Rc<Self> {
        Rc::new(Self {
            connect: Box::new(connect),
            settings,
            counts,
            idle: RefCell::default(),
            closings: Cell::new(0),
        })
    }

    /// Opens a connection. Runs until it is open or fails.
    pub(super) fn connect(&self, tls_bucket: &str) -> LocalBoxFuture<'static, io::Result<S>> {
        (self.connect)(tls_bucket.into())
    }

    /// A connection that was opened for this pool.
    pub(super) fn adopt(&self, stream: S, tls_bucket: &str) -> PooledConnection<S> {
        let opened = (self.settings.retention, clock::now());
        let connection = UpstreamConnection::new(stream, &self.counts, opened, tls_bucket.into());
        PooledConnection { connection: Box::new(connection), closings: self.closings.get() }
    }

    /// The newest idle connection with this TLS server name that can be used.
    pub(super) fn take(&self, tls_bucket: &str, now: Instant) -> Option<PooledConnection<S>> {
        let mut idle = self.idle.borrow_mut();
        while let Some(at) = idle.iter().rposition(|entry| *entry.connection.tls_bucket == *tls_bucket) {
            let IdleConnection { mut connection, until, .. } = idle.remove(at);
            if now < until && connection.is_live() {
                connection.is_reused = true;
                return Some(PooledConnection { connection, closings: self.closings.get() });
            }
        }
        None
    }

    /// Keeps a connection that has delivered a whole response and nothing more. `idle_max` is the upstream's own limit of the idle time.
    pub(super) fn release(&self, pooled: PooledConnection<S>, idle_max: Option<Duration>, now: Instant) {
        let PooledConnection { connection, closings } = pooled;
        // A large receive window cannot be taken back, and an idle connection must not have one.
        if closings != self.closings.get() || connection.socket().has_open_window() {
            return;
        }
        let PoolSettings { idle_timeout, lifetime, idle_max: most, .. } = self.settings;
        let idle_time = idle_max.map_or(idle_timeout, |idle_max| idle_max.min(idle_timeout));
        let until = now + idle_time;
        let until = lifetime.map_or(until, |lifetime| until.min(connection.opened + lifetime));
        if until <= now {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        if self.counts.idle() >= most {
            // The oldest of this thread goes. Another thread may have all of them.
            if idle.is_empty() || most == 0 {
                return;
            }
            idle.remove(0);
        }
        idle.push(IdleConnection { connection, _idle: self.counts.count_idle(), until });
    }

    /// Closes idle connections that are too old, or that the upstream has closed.
    pub(crate) fn sweep(&self, now: Instant) {
        self.idle.borrow_mut().retain_mut(|entry| now < entry.until && entry.connection.is_live());
    }

    /// Closes the idle connections and returns their number. Connections in use close at the end of their responses.
    pub(crate) fn close_idle(&self) -> usize {
        self.closings.set(self.closings.get().wrapping_add(1));
        self.idle.take().len()
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
