//! The keys of the limit that the deadline of a request follows from.

use crate::decisions::decision::KeyName::{Header, Process, Upstream};
use crate::decisions::decision::ThresholdKeys;
use crate::upstream::rules::deadline::{DeadlineSource, REQUEST_TIMEOUT_NAME};

pub(super) fn keys(source: DeadlineSource) -> ThresholdKeys {
    match source {
        DeadlineSource::Total => &[Process("server.request_timeout")],
        DeadlineSource::LongOperation => &[Upstream("long_operation_timeout")],
        DeadlineSource::Client => &[Header(REQUEST_TIMEOUT_NAME)],
    }
}
