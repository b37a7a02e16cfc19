//! The causes of the configuration.

use super::CodeEntry;
use super::ScopeKind::Process;
use super::Severity::Degraded;

pub(super) const REFUSED: CodeEntry = CodeEntry {
    name: "configuration_refused",
    severity: Degraded,
    scope: Process,
    meaning: "the changed configuration has problems, so a reload refused it; `configuration.last_reload` has all of them",
    effect: "the configuration before it stays in use",
    refusals: &[],
    ends_when: "a reload applies a configuration, or finds the one in use",
};
