//! The actions of the resource levels in the status document (X2, X7).

use std::time::Instant;

use serde_json::{Value, json};
use tidegate_actors::{ActionEntry, ActionView};

use crate::degradation::cause::Moment;
use crate::process::Shared;
use crate::telemetry::rfc3339;

/// All actions, in the order of the table.
pub(super) fn document(shared: &Shared, now: Instant) -> Value {
    let started = shared.process.degradation.started;
    let elapsed = now.saturating_duration_since(started.now);
    let at = Moment { now, wall: started.wall.checked_add(elapsed).unwrap_or(started.wall) };
    shared.actors.monitor.actions().views().iter().map(|view| action(view, at)).collect()
}

fn action(view: &ActionView, at: Moment) -> Value {
    let ActionEntry { name, effect, unit, .. } = view.action.entry();
    json!({
        "name": name,
        "on_level": view.rule.on_level.as_str(),
        "mode": view.rule.mode.as_str(),
        "in_force": view.since.is_some(),
        "since": view.since.map(|since| rfc3339(at.wall_of(since))),
        "touched": view.touched,
        "touched_in_force": view.touched_in_force,
        "unit": unit,
        "sentence": effect,
    })
}
