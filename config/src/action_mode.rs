//! The mode of a limit or an action: enforced, tried out, or off.

use crate::value_type::Choice;

/// What a limit or an action does when it applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActionMode {
    /// it acts
    Enforce,
    /// it decides and counts, and changes nothing; what it would refuse is recorded
    Shadow,
    /// it does not decide
    Off,
}

pub(crate) const MODES: Choice<ActionMode> =
    Choice(&[("enforce", ActionMode::Enforce), ("shadow", ActionMode::Shadow), ("off", ActionMode::Off)]);

impl ActionMode {
    /// The word in the configuration and in the status document.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Shadow => "shadow",
            Self::Off => "off",
        }
    }
}
