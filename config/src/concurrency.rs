//! Bounds on what one client and unverified forms may hold in the whole process.

use std::num::NonZeroUsize;

use crate::form::{nonzero_size, whole};
use crate::section::section;
use crate::walk::key;

section! {
    /// Requests in flight in the whole process, beyond `server.max_concurrent_requests`.
    pub struct ClientConcurrencyConfig {
        /// requests in flight of one client (its key or token subject, else its address, IPv6 by /64); one more is answered 429; 0 is off
        ///
        /// It counts every request from its authentication to the last byte of its answer. Each request then asks the monitor, which
        /// costs about 10 µs. Watch `client_concurrency_rejections_total`.
        pub max_per_client: usize = key("max_per_client", whole(0..=1_000_000), 0);
        /// POST forms whose fields are still being read; one more is answered 503; one client may have half of them
        ///
        /// They hold no slot of `server.max_concurrent_requests` before their proof is verified. Watch `form_rejections_total`.
        pub max_pending_forms: NonZeroUsize =
            key("max_pending_forms", whole(1..=1_000_000), nonzero_size(200));
    }
}
