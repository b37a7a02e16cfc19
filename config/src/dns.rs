//! Looking up the names of upstreams.
//!
//! The system's resolver gives no time to live, so there is one here for every name. Deliberately absent: name servers of the
//! gateway's own; what `/etc/resolv.conf` and `/etc/hosts` say holds.

use std::time::Duration;

use crate::form::seconds;
use crate::section::section;
use crate::walk::key;

section! {
    /// Looking up the names of upstreams.
    pub struct DnsConfig {
        /// how long the addresses of a name are used before it is looked up again
        ///
        /// New connections take turns over all addresses. If a look-up fails, the last answer stays in use.
        pub ttl: Duration = key("ttl", seconds(0.0..=86_400.0), Duration::from_secs(30));
        /// how long a look-up may take
        pub timeout: Duration = key("timeout", seconds(0.001..=60.0), Duration::from_secs(5));
    }
}
