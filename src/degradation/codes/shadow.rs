//! The causes of a shadow mode: a limit, a circuit or an action that decides and changes nothing.

use super::CodeEntry;
use super::ScopeKind::{Bucket, Process};
use super::Severity::Degraded;

pub(super) const LIMIT_SHADOW: CodeEntry = CodeEntry {
    name: "limit_shadow",
    severity: Degraded,
    scope: Bucket,
    meaning: "a rate limit in shadow mode would have refused requests",
    effect: "none: the limit is in shadow mode",
    refusals: &[],
    ends_when: "the limit would have refused no request for 3 s",
};

pub(super) const CIRCUIT_SHADOW: CodeEntry = CodeEntry {
    name: "circuit_shadow",
    severity: Degraded,
    scope: Bucket,
    meaning: "a circuit is not closed, and the breaker is in shadow mode",
    effect: "none: the breaker is in shadow mode",
    refusals: &[],
    ends_when: "the circuit closes",
};

pub(super) const CLIENT_LIMIT_SHADOW: CodeEntry = CodeEntry {
    name: "client_limit_shadow",
    severity: Degraded,
    scope: Process,
    meaning: "`concurrency.max_per_client` in shadow mode would have refused requests",
    effect: "none: the limit is in shadow mode",
    refusals: &[],
    ends_when: "the limit would have refused no request for 3 s",
};

pub(super) const ACTION_SHADOW: CodeEntry = CodeEntry {
    name: "action_shadow",
    severity: Degraded,
    scope: Process,
    meaning: "the level of an action is reached, and the action is in shadow mode",
    effect: "none: the action is in shadow mode",
    refusals: &[],
    ends_when: "the level falls below that of the action",
};
