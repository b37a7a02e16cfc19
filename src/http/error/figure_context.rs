//! The configuration that the figures of a refusal need.

use tidegate_config::{BucketConfig, Config};

use crate::upstream::rules::deadline::DeadlineSource;

/// The configuration of the request that was refused.
#[derive(Clone, Copy)]
pub(crate) struct FigureContext<'a> {
    pub(crate) config: &'a Config,
    /// None for a request without a bucket.
    pub(crate) bucket: Option<&'a BucketConfig>,
    /// What the deadline of the request follows from.
    pub(crate) deadline: DeadlineSource,
}
