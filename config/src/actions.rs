//! The actions of the resource levels: the level at which each begins, and its mode.
//!
//! What an action does is in `actors/src/monitor/actions.rs`, which has one row for each section here.

use crate::action_mode::{ActionMode, MODES};
use crate::schema::{Docs, Section, Spec, key};
use crate::section::section;
use crate::value_type::Choice;

/// A resource level above normal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ActionLevel {
    /// `monitor.warning`
    Warning,
    /// `monitor.critical`
    Critical,
    /// `monitor.exhausted`
    Exhausted,
}

const LEVELS: Choice<ActionLevel> = Choice(&[
    ("warning", ActionLevel::Warning),
    ("critical", ActionLevel::Critical),
    ("exhausted", ActionLevel::Exhausted),
]);

/// When an action is in force, and whether it acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActionConfig {
    /// the lowest level at which it is in force
    pub on_level: ActionLevel,
    /// what it does then
    pub mode: ActionMode,
}

section! {
    /// The actions of the resource levels.
    pub struct ActionsConfig {
        /// closes the connections that have been idle longest, while memory or descriptors are at the level
        pub idle_connections: ActionConfig = ActionKeys("idle_connections", ActionLevel::Warning);
        /// closes the idle connections to upstreams, while descriptors are at the level and too few client connections are idle
        pub idle_upstreams: ActionConfig = ActionKeys("idle_upstreams", ActionLevel::Warning);
        /// shrinks the socket buffers of large bodies, while memory is at the level
        pub receive_buffers: ActionConfig = ActionKeys("receive_buffers", ActionLevel::Warning);
        /// does not observe the histograms of request phases
        pub detailed_metrics: ActionConfig = ActionKeys("detailed_metrics", ActionLevel::Critical);
        /// leaves the query out of the access log
        pub access_log_detail: ActionConfig = ActionKeys("access_log_detail", ActionLevel::Critical);
        /// sends no slow read a second time
        pub hedges: ActionConfig = ActionKeys("hedges", ActionLevel::Critical);
        /// repeats no failed attempt, and lets no request wait for its circuit
        pub retries: ActionConfig = ActionKeys("retries", ActionLevel::Critical);
        /// leaves out three of four health checks
        pub health_check_rate: ActionConfig = ActionKeys("health_check_rate", ActionLevel::Critical);
        /// closes a connection that becomes idle after 5 s, if `server.keep_alive` is longer
        pub keep_alive: ActionConfig = ActionKeys("keep_alive", ActionLevel::Critical);
        /// refuses writes with the priority `low`, if fewer requests would lower the level
        pub shed_uploads: ActionConfig = ActionKeys("shed_uploads", ActionLevel::Critical);
        /// refuses every request, if fewer requests would lower the level
        pub shed_requests: ActionConfig = ActionKeys("shed_requests", ActionLevel::Exhausted);
        /// pauses the largest transfers for at most 10 s, each once, while the process's own memory is at the level
        pub pause_transfers: ActionConfig = ActionKeys("pause_transfers", ActionLevel::Exhausted);
        /// cuts the largest transfers that have had their pause, while the process's own memory is at the level
        pub cut_transfers: ActionConfig = ActionKeys("cut_transfers", ActionLevel::Exhausted);
    }
}

/// The section of one action, and the level at which it is in force by default.
struct ActionKeys(&'static str, ActionLevel);

impl Spec for ActionKeys {
    type Value = ActionConfig;

    fn read(self, docs: Docs, section: &mut Section<'_>) -> ActionConfig {
        let mut child = section.child(self.0);
        child.document(docs);
        let on_level = child.read_field(
            &[
                " lowest resource level at which the action is in force",
                "",
                " Watch `tidegate_degradation_action_in_force`.",
            ],
            key("on_level", LEVELS, self.1),
        );
        let mode = child.read_field(
            &[
                " `enforce` acts; `shadow` counts what it would do, and changes nothing; `off` does neither",
                "",
                " Watch `tidegate_degradation_action_touched_total`.",
            ],
            key("mode", MODES, ActionMode::Enforce),
        );
        ActionConfig { on_level, mode }
    }
}
