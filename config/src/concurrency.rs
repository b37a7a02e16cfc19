//! Process-wide limits: concurrent requests of one client, and POST forms that are not verified yet.

use std::num::NonZeroUsize;

use crate::action_mode::{ActionMode, MODES};
use crate::schema::key;
use crate::section::section;
use crate::value_type::{nonzero_size, whole};

section! {
    /// Process-wide limits besides `server.max_concurrent_requests`.
    pub struct ClientConcurrencyConfig {
        /// concurrent requests of one client; more get 429; 0 is off
        ///
        /// A client is its key or token subject, else its address (IPv6: its /64). A request counts from its authentication to
        /// the last byte of its response. Each request then asks the monitor, which costs about 10 µs.
        /// Watch `tidegate_client_concurrency_rejections_total`.
        pub max_per_client: usize = key("max_per_client", whole(0..=1_000_000), 0);
        /// `enforce` refuses requests beyond `max_per_client`; `shadow` only counts them; `off` ignores the limit
        ///
        /// In shadow mode the response header `x-tidegate-shadow` is `client_concurrency`, and the request is a decision
        /// with `shadow`. Watch `tidegate_client_concurrency_shadowed_total`.
        pub max_per_client_mode: ActionMode = key("max_per_client_mode", MODES, ActionMode::Enforce);
        /// POST forms in the phase in which the gateway reads their fields; more get 503; one client may have half
        ///
        /// A form holds no slot of `server.max_concurrent_requests` until its signature is verified.
        /// Watch `tidegate_form_rejections_total`.
        pub max_pending_forms: NonZeroUsize =
            key("max_pending_forms", whole(1..=1_000_000), nonzero_size(200));
    }
}

impl ClientConcurrencyConfig {
    /// Whether `max_per_client` refuses requests.
    pub fn refuses_clients(&self) -> bool {
        self.max_per_client > 0 && self.max_per_client_mode == ActionMode::Enforce
    }
}
