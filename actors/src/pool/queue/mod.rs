//! The requests that wait for a permit of a bucket: order and displacement, overload detection, expected wait, and the
//! wake-up at a given time (P3, P4, C3). See `docs/design/queue-and-permits.md`.

pub(crate) mod codel;
pub(crate) mod queue_throughput;
pub(crate) mod wait_queue;
pub(crate) mod wake_timer;
