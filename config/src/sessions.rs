//! The session cache: its capacity and the lifetime of its entries.

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::schema::key;
use crate::section::section;
use crate::value_type::{nonzero_size, seconds, whole};

section! {
    /// The session cache.
    pub struct SessionsConfig {
        /// verified identities in the cache; at capacity the oldest tenth is evicted at once
        pub capacity: NonZeroUsize = key("capacity", whole(1..=10_000_000), nonzero_size(1000));
        /// how long a verified identity is cached
        ///
        /// With a shorter time a revoked key is noticed sooner, and keys are verified more often.
        pub ttl: Duration = key("ttl_seconds", seconds(0.001..=604_800.0), Duration::from_secs(3600));
    }
}
