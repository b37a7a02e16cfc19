//! The cause `shedding` of the process and of a bucket: from the first refused request to three seconds after the last.
//!
//! A cursor above 0 alone is no cause: it may cut a class without requests.

use tidegate_actors::{CursorCause, SheddingView};
use tidegate_config::ActionMode;

use crate::admin::status::shedding::sentence;
use crate::degradation::codes::CauseCode;
use crate::degradation::episodes::CounterReading;
use crate::degradation::finding::{Finding, Quantity, Scope};

/// The counter of the requests that a cursor refused, or would have refused; none if there were none. `scope` is only made for one.
pub(super) fn counter(scope: impl FnOnce() -> Scope, view: &SheddingView) -> Option<CounterReading> {
    let is_shadow = view.mode == ActionMode::Shadow;
    let count = if is_shadow { view.shadowed() } else { view.refused() };
    CounterReading::if_risen(count, || {
        let finding = shedding(scope(), view);
        let finding = match is_shadow {
            true => finding.with_effect("none: the cursor is in shadow mode"),
            false => finding,
        };
        CounterReading { finding, count, unit: "requests", is_hidden: false }
    })
}

fn shedding(scope: Scope, view: &SheddingView) -> Finding {
    let of = scope.bucket.as_ref().map_or_else(|| "the process".to_owned(), |name| format!("bucket {name}"));
    let verb = if view.mode == ActionMode::Shadow { "would cut" } else { "cuts" };
    let sentence = sentence(view);
    let message = format!("the cursor of {of} {verb} requests. {}", sentence.trim_end_matches('.'));
    let finding = Finding::new(CauseCode::Shedding, scope, message);
    match view.cause {
        CursorCause::Wait(wait) | CursorCause::EarlyWait(wait) => finding
            .measured(Quantity::new(wait.as_secs_f64() * 1e3, "ms"))
            .threshold(Quantity::new(view.wait_threshold.as_secs_f64() * 1e3, "ms")),
        CursorCause::Pressure(percent) | CursorCause::QueueLength(percent) => finding
            .measured(Quantity::new(percent, "%"))
            .threshold(Quantity::new(view.pressure_threshold, "%")),
    }
}
