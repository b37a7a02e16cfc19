//! The cause of a failover.

use super::CodeEntry;
use super::ScopeKind::Bucket;
use super::Severity::Degraded;

pub(super) const STANDBY_IN_USE: CodeEntry = CodeEntry {
    name: "standby_in_use",
    severity: Degraded,
    scope: Bucket,
    meaning: "the standby endpoints of the bucket serve, because too few primary endpoints are usable",
    effect: "requests are served by the endpoints in `failover.endpoints`",
    refusals: &[],
    ends_when: "enough primary endpoints have been usable for `failover.return_after_seconds`, or no standby endpoint is usable",
};
