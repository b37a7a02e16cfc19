//! The measured waits and the cursors in the status document (X1, X11).

use std::time::Instant;

use serde_json::{Map, Value, json};
use tidegate_actors::{SheddingView, WaitReading};
use tidegate_config::{ActionMode, Priority, key_name};

use crate::admin::status::round;
use crate::http::shedding_rejection::{cause_text, client_name};
use crate::process::Shared;
use crate::telemetry::millis;

/// The heaviest clients in the document.
const CLIENTS_SHOWN: usize = 10;
/// The key of the threshold, of the process and below `concurrency` of a bucket.
const TARGET_KEY: &str = "shedding.target_wait_ms";

/// The waits that move the cursors, each with its threshold and age.
pub(super) fn waits(shared: &Shared, now: Instant) -> Value {
    let shedding = &shared.actors.shedding;
    let target = shared.config.shedding.target_wait.as_secs_f64() * 1e3;
    let lags = shedding.waits.lags(now).into_iter();
    let lags = lags.map(|view| {
        let mut lag = wait(view.lag, (target, TARGET_KEY));
        lag["worker"] = view.worker.into();
        let excluded = view.excluded.filter(|excluded| !excluded.is_stale());
        lag["excluded_ms"] = excluded.map(|excluded| round(excluded.wait.as_secs_f64() * 1e3)).into();
        lag
    });
    let buckets = shared.router.buckets().iter().map(|bucket| {
        let view = bucket.pool.shedder().view(now);
        let section = ["buckets", &bucket.name, bucket.config.kind.as_str()];
        let key = format!("{}.concurrency.{TARGET_KEY}", key_name(&section));
        (bucket.name.clone(), wait(view.wait, (view.target.as_secs_f64() * 1e3, &key)))
    });
    json!({
        "event_loop": lags.collect::<Vec<_>>(),
        "mailboxes": wait(shedding.waits.mailboxes(now), (target, TARGET_KEY)),
        "buckets": buckets.collect::<Map<_, _>>(),
    })
}

/// A wait with its threshold and the key of it. A wait that is older than a second is unknown and without effect.
fn wait(reading: Option<WaitReading>, (threshold_ms, key): (f64, &str)) -> Value {
    let known = reading.filter(|reading| !reading.is_stale());
    json!({
        "value_ms": known.map(|reading| round(reading.wait.as_secs_f64() * 1e3)),
        "threshold_ms": round(threshold_ms),
        "threshold_source": key,
        "age_ms": reading.map(|reading| millis(reading.age)),
    })
}

/// The cursors, and the clients with the highest cost.
pub(super) fn shedding(shared: &Shared, now: Instant) -> Value {
    let process = &shared.actors.shedding.process;
    let buckets = shared
        .router
        .buckets()
        .iter()
        .map(|bucket| (bucket.name.clone(), cursor(&bucket.pool.shedder().view(now))));
    let clients = process.heaviest_clients(CLIENTS_SHOWN).into_iter().map(|cost| {
        json!({
            "client": client_name(&shared.keyring, cost.client),
            "share": round(cost.share),
            "cost_per_second": round(cost.per_second),
        })
    });
    json!({
        "process": cursor(&process.view(now)),
        "buckets": buckets.collect::<Map<_, _>>(),
        "top_clients": clients.collect::<Vec<_>>(),
    })
}

fn cursor(view: &SheddingView) -> Value {
    let wait = view.wait.filter(|wait| !wait.is_stale());
    json!({
        "cursor": view.cursor,
        "wait_ms": wait.map(|wait| round(wait.wait.as_secs_f64() * 1e3)),
        "target_ms": round(view.target.as_secs_f64() * 1e3),
        "mode": view.mode.as_str(),
        "refused": view.refused(),
        "shadowed": view.shadowed(),
        "sentence": sentence(view),
    })
}

/// Who is refused at present, and why.
pub(super) fn sentence(view: &SheddingView) -> String {
    if view.mode == ActionMode::Off {
        return "Shedding is off.".to_owned();
    }
    if view.cursor <= 0.0 {
        return "The cursor is 0: nobody is refused.".to_owned();
    }
    let cuts = view.cuts.iter().filter(|cut| cut.fraction > 0.0).map(|cut| {
        let class = Priority::as_str(cut.class);
        match cut.fraction {
            1.0.. => format!("all requests of class {class}"),
            part => format!("{:.0} % of class {class}", part * 100.0),
        }
    });
    let verb = if view.mode == ActionMode::Shadow { "would be" } else { "are" };
    let cuts = cuts.collect::<Vec<_>>().join(" and ");
    format!("The cursor is {:.2} because of {}: {cuts} {verb} refused.", view.cursor, cause_text(view.cause))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidegate_actors::{ClassCountsView, ClassCutView, CursorCause};

    use super::*;

    fn view(mode: ActionMode, cursor: f64, fractions: [f64; 3]) -> SheddingView {
        let classes = [Priority::Low, Priority::Normal, Priority::High];
        let cut = |at: usize| ClassCutView { class: classes[at], fraction: fractions[at] };
        SheddingView {
            mode,
            cursor,
            cause: CursorCause::Wait(Duration::from_millis(31)),
            wait: None,
            target: Duration::from_millis(20),
            wait_threshold: Duration::from_millis(20),
            pressure_threshold: 92.5,
            cuts: [0, 1, 2].map(cut),
            counts: classes.map(|class| ClassCountsView { class, refused: 0, shadowed: 0 }),
        }
    }

    /// X11: the sentence has the refused classes and the cause
    #[test]
    fn the_sentence_says_who_is_refused() {
        let expected = "The cursor is 1.40 because of a wait of 31 ms: all requests of class low and 40 % of class normal are refused.";
        assert_eq!(sentence(&view(ActionMode::Enforce, 1.4, [1.0, 0.4, 0.0])), expected);
        let early = CursorCause::EarlyWait(Duration::from_millis(12));
        let early = SheddingView { cause: early, ..view(ActionMode::Enforce, 0.25, [0.25, 0.0, 0.0]) };
        let expected = "The cursor is 0.25 because of a wait of 12 ms (more than half of the target): 25 % of class low are refused.";
        assert_eq!(sentence(&early), expected);
        let shadow = sentence(&view(ActionMode::Shadow, 0.25, [0.25, 0.0, 0.0]));
        assert!(shadow.ends_with("25 % of class low would be refused."), "{shadow}");
        assert_eq!(
            sentence(&view(ActionMode::Enforce, 0.0, [0.0; 3])),
            "The cursor is 0: nobody is refused."
        );
        assert_eq!(sentence(&view(ActionMode::Off, 0.0, [0.0; 3])), "Shedding is off.");
    }
}
