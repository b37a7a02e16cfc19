//! An upstream with an answer that a test replaces.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use super::upstream::{Upstream, UpstreamReply};

/// A server with a replaceable answer.
pub(crate) struct ReplaceableUpstream {
    pub(crate) server: Upstream,
    reply: Arc<Mutex<UpstreamReply>>,
}

impl ReplaceableUpstream {
    pub(crate) fn start(reply: UpstreamReply) -> Self {
        let reply = Arc::new(Mutex::new(reply));
        let current = Arc::clone(&reply);
        Self { server: Upstream::start(move |_| current.lock().unwrap().clone()), reply }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Answers every later request with this.
    pub(crate) fn publish(&self, reply: UpstreamReply) {
        *self.reply.lock().unwrap() = reply;
    }
}
