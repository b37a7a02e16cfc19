//! The session cache: how many verified identities are remembered, and for how long.

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::form::{nonzero_size, seconds, whole};
use crate::section::section;
use crate::walk::key;

section! {
    /// The session cache.
    pub struct SessionsConfig {
        /// identities that are remembered; at capacity the oldest tenth is forgotten in one go
        pub capacity: NonZeroUsize = key("capacity", whole(1..=10_000_000), nonzero_size(1000));
        /// how long an identity is remembered
        ///
        /// Shorter means that a withdrawn key is noticed sooner and verified more often.
        pub ttl: Duration = key("ttl_seconds", seconds(0.001..=604_800.0), Duration::from_secs(3600));
    }
}
