//! `tidegate reload`: makes a running gateway load its configuration again, or checks a file against the running gateway (G3).
//!
//! It sends `POST /reload` to the admin listener, which needs the token of operators. With `--check FILE` it changes nothing: it loads
//! the file by the rules of a reload with the variables of this process and compares it with `GET /config` of the running gateway. The
//! values of secrets cannot be compared then, because no gateway shows them. `text.rs` makes the lines. The exit code is 0 if the
//! configuration is in use or could be, and 1 if it is refused.

mod text;

use std::collections::HashMap;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};
use tidegate::telemetry::escape_json_document;
use tidegate::{Gateway, config_change, config_document, config_problem};
use tidegate_config::{Config, Loaded, Problem, Problems};

use crate::admin_client::{AdminTarget, ReplyError};

/// The names of the documents in errors.
const RELOAD_DOCUMENT: &str = "reply to a reload";
const CONFIG_DOCUMENT: &str = "configuration document";

/// What is done, and how it is shown.
#[derive(Args)]
pub(crate) struct ReloadChoice {
    /// Change nothing: load FILE with the variables of this process, and print what differs from the running gateway.
    #[arg(long, value_name = "FILE")]
    pub(crate) check: Option<PathBuf>,
    /// Print JSON, as `POST /reload` and `GET /config/diff` of the admin listener do.
    #[arg(long)]
    json: bool,
    /// Admin listener, as http://127.0.0.1:8090; by default that of the configuration.
    #[arg(value_name = "URL")]
    pub(crate) url: Option<String>,
}

/// A text for stdout, and whether the configuration is in use or could be.
pub(crate) struct ReloadOutput {
    pub(crate) text: String,
    pub(crate) is_accepted: bool,
}

/// Makes the gateway of this configuration load it again.
pub(crate) fn reload(config: &Config, choice: &ReloadChoice) -> Result<ReloadOutput, ReplyError> {
    let target = AdminTarget::new(choice.url.as_deref(), config)?.with_operator_token(config);
    let reply = target.post_reload(RELOAD_DOCUMENT)?;
    match reply["result"].is_string() && reply["changes"].is_array() {
        true => Ok(output(&reply, choice, target.host())),
        false => Err(target.no_document(RELOAD_DOCUMENT)),
    }
}

/// Compares a loaded file with the running gateway. `config` names the gateway.
pub(crate) fn check(
    loaded: &Loaded,
    config: &Config,
    choice: &ReloadChoice,
) -> Result<ReloadOutput, ReplyError> {
    let target = AdminTarget::new(choice.url.as_deref(), config)?;
    let running = target.get_document("/config", CONFIG_DOCUMENT)?.value;
    let Some(before) = running["keys"].as_array() else { return Err(target.no_document(CONFIG_DOCUMENT)) };
    let after = config_document(loaded.effective.keys());
    let (changes, hidden) = differences(before, after["keys"].as_array().map_or(&[][..], Vec::as_slice));
    let mut problems: Vec<Value> = changes.iter().filter_map(restart_problem).collect();
    if loaded.config.buckets.is_empty() && before.iter().any(is_of_bucket) {
        problems.push(config_problem(&Problem::of_process("buckets", "none is configured", None)));
    }
    if let Err(error) = Gateway::check(&loaded.config) {
        problems.push(config_problem(&Problem::of_process("files", error.to_string(), None)));
    }
    let result = match (problems.is_empty(), changes.is_empty()) {
        (false, _) => "refused",
        (true, true) => "unchanged",
        (true, false) => "applicable",
    };
    let warnings: Vec<Value> = loaded.warnings.iter().map(config_problem).collect();
    let reply = json!({ "version": env!("CARGO_PKG_VERSION"), "result": result, "changes": changes,
        "hidden": hidden, "problems": problems, "warnings": warnings });
    Ok(output(&reply, choice, target.host()))
}

/// The output about a file that cannot be loaded: the gateway was not asked.
pub(crate) fn refused(problems: &Problems, choice: &ReloadChoice) -> ReloadOutput {
    let problems: Vec<Value> = problems.iter().map(config_problem).collect();
    let reply = json!({ "version": env!("CARGO_PKG_VERSION"), "result": "refused", "changes": [], "problems": problems,
        "warnings": [] });
    output(&reply, choice, "nothing was asked")
}

/// The reply as text or as JSON.
fn output(reply: &Value, choice: &ReloadChoice, host: &str) -> ReloadOutput {
    let text = match choice.json {
        true => escape_json_document(&format!("{reply:#}\n")).into_owned(),
        false => text::lines(reply, host).join("\n") + "\n",
    };
    ReloadOutput { text, is_accepted: reply["result"] != "refused" }
}

/// The keys that differ, and the number of hidden values that two gateways cannot compare.
fn differences(before: &[Value], after: &[Value]) -> (Vec<Value>, usize) {
    let by_name = |keys: &'_ [Value]| -> HashMap<String, Value> {
        let named = |key: &Value| Some((key["key"].as_str()?.to_owned(), key.clone()));
        keys.iter().filter_map(named).collect()
    };
    let (old, new) = (by_name(before), by_name(after));
    let found = |keys: &HashMap<String, Value>, key: &Value| keys.get(key["key"].as_str()?).cloned();
    let is_set = |key: &Value| key["is_default"] == false;
    let is_same =
        |old: &Value, new: &Value| old["value"] == new["value"] && old["is_hidden"] == new["is_hidden"];
    let (mut changes, mut hidden) = (Vec::new(), 0);
    for key in after {
        match found(&old, key) {
            None if is_set(key) => changes.push(config_change(None, Some(key))),
            None => {}
            Some(other) if is_same(&other, key) => {
                hidden += usize::from(key["is_hidden"] == true && is_set(key));
            }
            Some(other) => changes.push(config_change(Some(&other), Some(key))),
        }
    }
    let removed = before.iter().filter(|key| is_set(key) && found(&new, key).is_none());
    changes.extend(removed.map(|key| config_change(Some(key), None)));
    (changes, hidden)
}

/// The problem with a change that needs a restart.
fn restart_problem(change: &Value) -> Option<Value> {
    let (key, reason) = (change["key"].as_str()?, change["restart"].as_str()?);
    let message = format!("cannot change while the gateway runs ({}): {reason}", text::values(change));
    let hint = "restart the gateway, or take the change back";
    Some(json!({ "key": key, "message": message, "hint": hint, "origin": change["origin"] }))
}

fn is_of_bucket(key: &Value) -> bool {
    key["key"].as_str().is_some_and(|name| name.starts_with("buckets."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, value: Value, is_hidden: bool, is_default: bool) -> Value {
        json!({ "key": name, "value": value, "is_hidden": is_hidden, "is_default": is_default, "unit": null,
            "origin": { "kind": "file", "name": "t.toml", "line": 3 } })
    }

    /// G3: keys are compared by name and value; of keys that only one side has, those that are set count
    #[test]
    fn differences_are_by_key() {
        let before = [
            key("server.port", json!(8080), false, true),
            key("server.workers", json!(2), false, false),
            key("admin.token", json!("(set)"), true, false),
            key("keys.a.policy", json!("p"), false, false),
            key("keys.a.priority", Value::Null, false, true),
        ];
        let after = [
            key("server.port", json!(8081), false, false),
            key("server.workers", json!(2), false, true),
            key("admin.token", json!("(set)"), true, false),
            key("keys.b.policy", json!("p"), false, false),
            key("keys.b.priority", Value::Null, false, true),
        ];
        let (changes, hidden) = differences(&before, &after);
        let found: Vec<_> = changes.iter().map(|change| (&change["change"], &change["key"])).collect();
        let expected = [("changed", "server.port"), ("added", "keys.b.policy"), ("removed", "keys.a.policy")];
        let expected = expected.map(|(kind, name)| (json!(kind), json!(name)));
        assert_eq!(found, expected.iter().map(|(kind, name)| (kind, name)).collect::<Vec<_>>());
        assert_eq!(hidden, 1);
        let problems: Vec<_> = changes.iter().filter_map(restart_problem).collect();
        assert_eq!(problems.len(), 1);
        let message =
            "cannot change while the gateway runs (8080 → 8081): the listening sockets are opened once";
        assert_eq!((&problems[0]["key"], &problems[0]["message"]), (&json!("server.port"), &json!(message)));
    }
}
