//! The degradation model (X10): every cause of degradation, with its age, its effect, and the events of its begin and end.
//!
//! `codes/` has the table of all causes, from which severity, effect and documentation come. `finding.rs` is a cause as it is found at one
//! time; `tracker.rs` compares two such lists and gives each cause its age and its effect; `episodes.rs` turns a counter that rises into a
//! cause. `published.rs` holds the current list and the last events for readers, and `metrics.rs` the gauges. `admin/status` collects the
//! state of the gateway. Nothing here reads the clock or sends a message to an actor.

pub(crate) mod cause;
pub(crate) mod codes;
pub(crate) mod counts;
pub(crate) mod episodes;
pub(crate) mod finding;
pub(crate) mod metrics;
pub(crate) mod published;
pub(crate) mod tracker;
