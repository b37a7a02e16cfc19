//! Client connections, and the gateway's own shortages, in the status document.

use std::time::Instant;

use serde_json::{Map, Value, json};

use crate::shortage::{self, Shortage};
use crate::status::millis;
use crate::worker::Shared;

/// The data listener's connections.
pub(super) fn clients(shared: &Shared) -> Value {
    let count = shared.clients.count();
    json!({ "open": count.open, "idle": count.idle })
}

/// The shortages that last, by cause, and for how long each has lasted.
pub(super) fn shortages(now: Instant) -> Value {
    let present = Shortage::ALL.iter().filter_map(|shortage| {
        let since = shortage::began(*shortage)?;
        let lasted = millis(now.saturating_duration_since(since));
        Some((shortage.as_str().to_owned(), json!({ "since_ms": lasted, "error": shortage.to_string() })))
    });
    present.collect::<Map<_, _>>().into()
}
