//! The gate of a bucket: permits and their tickets (P3, P4), and the permits cached on a thread.

mod members;
pub(crate) mod permit_cache;
pub(crate) mod ticket;
