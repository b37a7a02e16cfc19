//! The ladder of actions (X2, X8): what each resource level switches off, shrinks or refuses, in one table.
//!
//! An action is in force while the level is at or above its `on_level`. An action that refuses or ends requests also needs that fewer
//! requests would lower the level (`relief.rs`). Within a level the actions take effect in the order of the table.
//! `in_force.rs` publishes the actions in force and counts what they touch. The callers act.

use tidegate_config::{ActionConfig, ActionLevel, ActionMode, ActionsConfig};

use crate::monitor::level::Level;

/// What is known about an action.
#[derive(Debug, PartialEq, Eq)]
pub struct ActionEntry {
    /// The name in configuration, status and metrics.
    pub name: &'static str,
    /// The level at which it begins by default.
    pub level: Level,
    /// What it does.
    pub effect: &'static str,
    /// What `touched` counts.
    pub unit: &'static str,
    /// It refuses or ends requests, so it needs that fewer requests would lower the level.
    pub(crate) refuses: bool,
}

macro_rules! actions {
    ($($action:ident: $level:ident $name:literal ($unit:literal) $effect:literal $(refuses $refuses:literal)?;)+) => {
        /// An action, in the order of the table.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Action {
            $(#[doc = $effect] $action,)+
        }

        /// Number of actions.
        pub(crate) const ACTIONS: usize = [$(Action::$action),+].len();

        impl Action {
            /// All actions, in the order of the table.
            pub const ALL: [Self; ACTIONS] = [$(Self::$action),+];
        }

        static TABLE: [ActionEntry; ACTIONS] = [$(ActionEntry {
            name: $name,
            level: Level::$level,
            effect: $effect,
            unit: $unit,
            refuses: false $(|| $refuses)?,
        }),+];
    };
}

actions!(
    IdleConnections: Warning "idle_connections" ("connections")
        "closes the connections that have been idle longest, while memory or descriptors are at the level";
    IdleUpstreams: Warning "idle_upstreams" ("connections")
        "closes the idle connections to upstreams, while descriptors are at the level and too few client connections are idle";
    ReceiveBuffers: Warning "receive_buffers" ("bytes")
        "shrinks the socket buffers of large bodies to their smallest size, and grows none, while memory is at the level";
    DetailedMetrics: Critical "detailed_metrics" ("requests")
        "does not observe the histograms of request phases";
    AccessLogDetail: Critical "access_log_detail" ("lines")
        "leaves the query out of the lines of the access log";
    Hedges: Critical "hedges" ("hedges")
        "sends no slow read a second time";
    Retries: Critical "retries" ("retries")
        "repeats no failed attempt, and lets no request wait for its circuit";
    HealthCheckRate: Critical "health_check_rate" ("checks")
        "leaves out three of four health checks of endpoints";
    KeepAlive: Critical "keep_alive" ("connections")
        "closes a connection that becomes idle after 5 s, if `server.keep_alive` is longer";
    ShedUploads: Critical "shed_uploads" ("requests")
        "refuses writes with the priority `low` before their body is read, if fewer requests would lower the level" refuses true;
    ShedRequests: Exhausted "shed_requests" ("requests")
        "refuses every request, if fewer requests would lower the level" refuses true;
    PauseTransfers: Exhausted "pause_transfers" ("transfers")
        "pauses the largest transfers for at most 10 s, each once, while the process's own memory is at the level" refuses true;
    CutTransfers: Exhausted "cut_transfers" ("transfers")
        "cuts the largest transfers that have had their pause, while the process's own memory is at the level" refuses true;
);

impl Action {
    /// Its row in the table.
    pub fn entry(self) -> &'static ActionEntry {
        &TABLE[self as usize]
    }

    /// Its section of the configuration.
    pub fn config(self, config: &ActionsConfig) -> ActionConfig {
        match self {
            Self::IdleConnections => config.idle_connections,
            Self::IdleUpstreams => config.idle_upstreams,
            Self::ReceiveBuffers => config.receive_buffers,
            Self::DetailedMetrics => config.detailed_metrics,
            Self::AccessLogDetail => config.access_log_detail,
            Self::Hedges => config.hedges,
            Self::Retries => config.retries,
            Self::HealthCheckRate => config.health_check_rate,
            Self::KeepAlive => config.keep_alive,
            Self::ShedUploads => config.shed_uploads,
            Self::ShedRequests => config.shed_requests,
            Self::PauseTransfers => config.pause_transfers,
            Self::CutTransfers => config.cut_transfers,
        }
    }
}

/// How an action that is in force acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InForce {
    /// It acts.
    Enforced,
    /// It counts what it would do.
    Shadow,
}

/// The configuration of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActionRule {
    /// The lowest level at which it is in force.
    pub on_level: Level,
    /// Its mode.
    pub mode: ActionMode,
}

/// The configuration of all actions, in one word: four bits for each, its level in two and its mode in two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ActionRules(pub(super) u64);

const RULE_BITS: u32 = 4;
const _: () = assert!(ACTIONS * RULE_BITS as usize <= u64::BITS as usize, "all rules are in one word");

impl ActionRules {
    pub(crate) fn new(config: &ActionsConfig) -> Self {
        Self(Action::ALL.into_iter().fold(0, |rules, action| {
            let ActionConfig { on_level, mode } = action.config(config);
            let level = match on_level {
                ActionLevel::Warning => Level::Warning,
                ActionLevel::Critical => Level::Critical,
                ActionLevel::Exhausted => Level::Exhausted,
            };
            let mode = match mode {
                ActionMode::Enforce => 0,
                ActionMode::Shadow => 1,
                ActionMode::Off => 2,
            };
            rules | u64::from(level.number() << 2 | mode) << (RULE_BITS * action as u32)
        }))
    }

    pub(crate) fn of(self, action: Action) -> ActionRule {
        let bits = self.0 >> (RULE_BITS * action as u32);
        let on_level = match bits >> 2 & 3 {
            0 => Level::Normal,
            1 => Level::Warning,
            2 => Level::Critical,
            _ => Level::Exhausted,
        };
        let mode = match bits & 3 {
            0 => ActionMode::Enforce,
            1 => ActionMode::Shadow,
            _ => ActionMode::Off,
        };
        ActionRule { on_level, mode }
    }

    /// The actions in force at a level. `may_end`: whether fewer requests would end the level or a lower one.
    pub(crate) fn in_force(self, level: Level, may_end: impl Fn(Level) -> bool) -> ActionSet {
        Action::ALL.into_iter().fold(ActionSet::default(), |set, action| {
            let ActionRule { on_level, mode } = self.of(action);
            let is_in_force = level >= on_level && (!action.entry().refuses || may_end(on_level));
            match mode {
                ActionMode::Enforce if is_in_force => set.with(action, InForce::Enforced),
                ActionMode::Shadow if is_in_force => set.with(action, InForce::Shadow),
                ActionMode::Enforce | ActionMode::Shadow | ActionMode::Off => set,
            }
        })
    }
}

/// The actions in force: a bit for each enforced action, and above them a bit for each in shadow mode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ActionSet(pub(crate) u32);

const SHADOW_SHIFT: u32 = 16;
const _: () = assert!(ACTIONS <= SHADOW_SHIFT as usize, "each mode has its own bits");

impl ActionSet {
    fn with(self, action: Action, in_force: InForce) -> Self {
        let bit = 1 << (action as u32);
        Self(self.0 | if in_force == InForce::Enforced { bit } else { bit << SHADOW_SHIFT })
    }

    /// Whether an action is in force, and how.
    #[inline]
    pub fn check(self, action: Action) -> Option<InForce> {
        let bit = 1 << (action as u32);
        if self.0 & (bit | bit << SHADOW_SHIFT) == 0 {
            return None;
        }
        Some(if self.0 & bit == 0 { InForce::Shadow } else { InForce::Enforced })
    }

    /// The enforced actions, in the order of the table.
    pub fn enforced(self) -> impl Iterator<Item = Action> {
        Action::ALL.into_iter().filter(move |action| self.check(*action) == Some(InForce::Enforced))
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// The table of docs/status.md.
    fn table() -> String {
        let mut text = "| action | level | effect | `touched` counts |\n|---|---|---|---|\n".to_owned();
        for ActionEntry { name, level, effect, unit, .. } in &TABLE {
            let _ = writeln!(text, "| `{name}` | `{}` | {effect} | {unit} |", level.as_str());
        }
        text
    }

    /// X2, X7: the page has exactly the rows of the table
    #[test]
    fn the_page_has_the_rows_of_the_table() {
        let page = include_str!("../../../docs/status.md");
        let marked = page
            .split_once("<!-- actions:begin -->")
            .and_then(|(_, rest)| rest.split_once("<!-- actions:end -->"));
        let expected = table();
        assert!(
            marked.is_some_and(|(text, _)| text.trim() == expected.trim()),
            "docs/status.md differs from the table: put this between <!-- actions:begin --> and <!-- actions:end -->\n\n{expected}"
        );
    }

    /// X2: the levels of the table are the defaults of the configuration, in rising order
    #[test]
    fn the_levels_are_the_defaults() {
        let rules = ActionRules::new(&ActionsConfig::default());
        for action in Action::ALL {
            let expected = ActionRule { on_level: action.entry().level, mode: ActionMode::Enforce };
            assert_eq!(rules.of(action), expected, "{action:?}");
        }
        assert!(TABLE.iter().map(|entry| entry.level).is_sorted());
    }

    /// X2: each level has its own actions and those of the levels below it
    #[test]
    fn a_level_has_the_actions_of_lower_levels() {
        let rules = ActionRules::new(&ActionsConfig::default());
        let names = |level| {
            let enforced = rules.in_force(level, |_| true).enforced();
            enforced.map(|action| action.entry().name).collect::<Vec<_>>()
        };
        assert_eq!(names(Level::Normal), Vec::<&str>::new());
        assert_eq!(names(Level::Warning), ["idle_connections", "idle_upstreams", "receive_buffers"]);
        assert_eq!(names(Level::Critical).last(), Some(&"shed_uploads"));
        assert_eq!(names(Level::Exhausted).len(), ACTIONS);
        let of_exhausted = ["shed_requests", "pause_transfers", "cut_transfers"];
        assert!(names(Level::Exhausted).ends_with(&of_exhausted));
    }

    /// X2, X11: `on_level` moves an action, `shadow` marks it, `off` removes it
    #[test]
    fn level_and_mode_are_those_of_the_configuration() {
        let defaults = ActionsConfig::default();
        let config = ActionsConfig {
            hedges: ActionConfig { on_level: ActionLevel::Warning, mode: ActionMode::Shadow },
            retries: ActionConfig { mode: ActionMode::Off, ..defaults.retries },
            keep_alive: ActionConfig { on_level: ActionLevel::Exhausted, ..defaults.keep_alive },
            ..defaults
        };
        let rules = ActionRules::new(&config);
        let check = |level, action| rules.in_force(level, |_| true).check(action);
        assert_eq!(check(Level::Normal, Action::Hedges), None);
        assert_eq!(check(Level::Warning, Action::Hedges), Some(InForce::Shadow));
        assert_eq!(check(Level::Exhausted, Action::Retries), None);
        assert_eq!(check(Level::Critical, Action::KeepAlive), None);
        assert_eq!(check(Level::Exhausted, Action::KeepAlive), Some(InForce::Enforced));
    }

    /// X8: no request is refused for a level that refusals cannot end
    #[test]
    fn nothing_is_refused_without_relief() {
        let rules = ActionRules::new(&ActionsConfig::default());
        let set = rules.in_force(Level::Exhausted, |level| level < Level::Critical);
        let ending =
            [Action::ShedUploads, Action::ShedRequests, Action::PauseTransfers, Action::CutTransfers];
        assert_eq!(ending.map(|action| set.check(action)), [None; 4]);
        assert_eq!(set.check(Action::Hedges), Some(InForce::Enforced));
        let set = rules.in_force(Level::Exhausted, |level| level == Level::Exhausted);
        assert_eq!(set.check(Action::ShedUploads), None);
        assert_eq!(set.check(Action::ShedRequests), Some(InForce::Enforced));
        assert_eq!(set.check(Action::CutTransfers), Some(InForce::Enforced));
    }
}
