//! DNS lookups of upstream names.
//!
//! The system's resolver returns no TTL, so one TTL applies to every name. The gateway has no list of name servers of its own:
//! `/etc/resolv.conf` and `/etc/hosts` apply.

use std::time::Duration;

use crate::schema::key;
use crate::section::section;
use crate::value_type::seconds;

section! {
    /// DNS lookups of upstream names.
    pub struct DnsConfig {
        /// how long a DNS answer is cached
        ///
        /// New connections use all addresses of a name in turn. If a lookup fails, the last answer stays in use.
        pub ttl: Duration = key("ttl", seconds(0.0..=86_400.0), Duration::from_secs(30));
        /// timeout of a DNS lookup
        pub timeout: Duration = key("timeout", seconds(0.001..=60.0), Duration::from_secs(5));
    }
}
