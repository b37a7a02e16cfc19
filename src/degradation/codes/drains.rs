//! The causes of drains that an operator has ordered for a bucket or an endpoint.

use super::CodeEntry;
use super::ScopeKind::{Bucket, Endpoint};
use super::Severity::{Critical, Degraded};

pub(super) const BUCKET_DRAINING: CodeEntry = CodeEntry {
    name: "bucket_draining",
    severity: Degraded,
    scope: Bucket,
    meaning: "an operator drains the bucket",
    effect: "new requests of the bucket are answered 503; those under way end normally",
    refusals: &["bucket_draining"],
    ends_when: "an operator ends the drain, or its time is over",
};

pub(super) const ENDPOINTS_DRAINING: CodeEntry = CodeEntry {
    name: "endpoints_draining",
    severity: Critical,
    scope: Bucket,
    meaning: "an operator drains every endpoint of the bucket",
    effect: "requests of the bucket without a call under way are answered 503",
    refusals: &["endpoints_draining"],
    ends_when: "an operator ends the drain of an endpoint, or its time is over",
};

pub(super) const ENDPOINT_DRAINING: CodeEntry = CodeEntry {
    name: "endpoint_draining",
    severity: Degraded,
    scope: Endpoint,
    meaning: "an operator drains the endpoint, and others serve",
    effect: "the endpoint gets no new calls; calls under way end normally",
    refusals: &[],
    ends_when: "an operator ends the drain, or its time is over",
};
