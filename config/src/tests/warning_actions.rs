//! Modes and levels of actions and limits that cancel each other or leave the gateway unprotected (G12).

use super::warnings::{OPEN, warned};
use crate::*;

/// The head of a file, then the one warning that it gives.
const WARNINGS: &[(&str, &str)] = &[
    (
        "actions.shed_requests.mode = \"off\"",
        "actions.shed_requests.mode: \"off\" refuses no request when memory or descriptors run out: the kernel may kill \
         the process (from t.toml); set it to enforce",
    ),
    (
        "actions.shed_requests.on_level = \"critical\"",
        "actions.shed_requests.on_level: \"critical\" is not above actions.shed_uploads.on_level (\"critical\", default): \
         every request is refused before uploads are (from t.toml); raise it, or lower actions.shed_uploads.on_level",
    ),
    (
        "actions.shed_uploads.on_level = \"exhausted\"\nbuckets.b.s3.concurrency.priority.write = \"low\"",
        "actions.shed_uploads.on_level: \"exhausted\" is not below actions.shed_requests.on_level (\"exhausted\", default): \
         every request is refused before uploads are (from t.toml); lower it, or raise actions.shed_requests.on_level",
    ),
    (
        "actions.shed_uploads.mode = \"shadow\"",
        "actions.shed_uploads.mode: \"shadow\" has no effect: no bucket or key gives writes the priority low (from t.toml); \
         remove it, or set buckets.NAME.UPSTREAM.concurrency.priority.write to low",
    ),
    (
        "actions.hedges = { mode = \"off\", on_level = \"warning\" }",
        "actions.hedges.on_level: \"warning\" has no effect: actions.hedges.mode (\"off\", from t.toml) never acts (from \
         t.toml); remove it, or set the mode to enforce",
    ),
    (
        "actions.shed_uploads.on_level = \"exhausted\"",
        "actions.shed_uploads.on_level: \"exhausted\" has no effect: no bucket or key gives writes the priority low (from \
         t.toml); remove it, or set buckets.NAME.UPSTREAM.concurrency.priority.write to low",
    ),
    (
        "actions.shed_uploads = { mode = \"off\", on_level = \"warning\" }",
        "actions.shed_uploads.on_level: \"warning\" has no effect: actions.shed_uploads.mode (\"off\", from t.toml) never \
         acts (from t.toml); remove it, or set the mode to enforce",
    ),
    (
        "actions.pause_transfers.mode = \"off\"",
        "actions.pause_transfers.mode: \"off\" defeats actions.cut_transfers.mode (\"enforce\", default): only a transfer \
         that has been paused is cut (from t.toml); set it to enforce, or set actions.cut_transfers.mode to the same",
    ),
    (
        "actions.cut_transfers.on_level = \"critical\"",
        "actions.cut_transfers.on_level: \"critical\" is below actions.pause_transfers.on_level (\"exhausted\", default): at \
         that level no transfer has been paused, so none is cut (from t.toml); raise it, or lower \
         actions.pause_transfers.on_level",
    ),
    (
        "shedding = { mode = \"off\", target_wait_ms = 5 }",
        "shedding.target_wait_ms: 5 ms has no effect: shedding.mode (\"off\", from t.toml) never sheds (from t.toml); remove \
         it, or set shedding.mode to enforce",
    ),
    (
        "buckets.b.s3.concurrency.shedding = { mode = \"off\", target_wait_ms = 5 }",
        "buckets.b.s3.concurrency.shedding.target_wait_ms: 5 ms has no effect: buckets.b.s3.concurrency.shedding.mode \
         (\"off\", from t.toml) never sheds (from t.toml); remove it, or set buckets.b.s3.concurrency.shedding.mode to enforce",
    ),
    (
        "concurrency.max_per_client_mode = \"shadow\"",
        "concurrency.max_per_client_mode: \"shadow\" has no effect: concurrency.max_per_client (0, default) is off (from \
         t.toml); remove it, or set the limit",
    ),
];

/// G12: each warning names both keys, their values and origins, what happens, and the fix
#[test]
fn modes_and_levels_without_effect_are_warned_of() {
    for (head, expected) in WARNINGS {
        assert_eq!(warned(&format!("{head}\n{OPEN}"), &[]), [*expected], "{head}");
    }
}

/// X2, X11: every action has a level and a mode; other values are refused, with the accepted ones
#[test]
fn levels_and_modes_are_read() {
    let load = |text: &str| load(Sources::default().text("t.toml", format!("{text}\n{OPEN}")));
    let config = load("actions.hedges = { on_level = \"Exhausted\", mode = \"shadow\" }").unwrap();
    let expected = ActionConfig { on_level: ActionLevel::Exhausted, mode: ActionMode::Shadow };
    assert_eq!(config.actions.hedges, expected);
    assert_eq!(config.actions.retries, ActionsConfig::default().retries);
    for (text, words) in [
        (
            "actions.hedges.on_level = \"normal\"",
            "actions.hedges.on_level: \"normal\" is not one of warning, critical, exhausted",
        ),
        ("actions.hedges.mode = \"shadwo\"", "did you mean shadow?"),
        ("actions.hedge.mode = \"off\"", "actions.hedges"),
        ("concurrency.max_per_client_mode = 1", "concurrency.max_per_client_mode"),
    ] {
        let problems = load(text).unwrap_err().to_string();
        assert!(problems.contains(words), "{words} in {problems}");
    }
}
