//! `tidegate upgrade`: makes a running gateway start its program file again and hand over to the new process (G8).
//!
//! It sends `POST /upgrade` to the admin listener, which needs the token of operators, and waits for the result. The exit code is 0 if
//! the new process serves, and 1 if the upgrade is refused or fails.

use clap::Args;
use serde_json::{Value, json};
use tidegate::telemetry::{escape_controls, escape_json_document};
use tidegate_config::{Config, Problems};

use crate::admin_client::{AdminTarget, ReplyError};

/// The name of the document in errors.
const UPGRADE_DOCUMENT: &str = "reply to an upgrade";

/// What is asked, and how the reply is shown.
#[derive(Args)]
pub(crate) struct UpgradeChoice {
    /// Print JSON, as `POST /upgrade` of the admin listener does.
    #[arg(long)]
    json: bool,
    /// Admin listener, as http://127.0.0.1:8090; by default that of the configuration.
    #[arg(value_name = "URL")]
    pub(crate) url: Option<String>,
}

/// A text for stdout, and whether the new process serves.
pub(crate) struct UpgradeOutput {
    pub(crate) text: String,
    pub(crate) is_done: bool,
}

/// Makes the gateway of this configuration hand over.
pub(crate) fn upgrade(config: &Config, choice: &UpgradeChoice) -> Result<UpgradeOutput, ReplyError> {
    let target = AdminTarget::new(choice.url.as_deref(), config)?.with_operator_token(config);
    let reply = target.post_upgrade(config.server.upgrade_timeout, UPGRADE_DOCUMENT)?;
    match reply["result"].is_string() || reply["error"]["message"].is_string() {
        true => Ok(output(&reply, choice, target.host())),
        false => Err(target.no_document(UPGRADE_DOCUMENT)),
    }
}

/// The output about a configuration that does not tell where the gateway is: nothing was sent.
pub(crate) fn refused(problems: &Problems, choice: &UpgradeChoice) -> UpgradeOutput {
    let error = json!({ "code": "upgrade_refused", "message": problems.to_string() });
    output(&json!({ "error": error }), choice, "nothing was sent")
}

fn output(reply: &Value, choice: &UpgradeChoice, host: &str) -> UpgradeOutput {
    let text = match choice.json {
        true => escape_json_document(&format!("{reply:#}\n")).into_owned(),
        false => format!("{} ({})\n", line(reply), escape_controls(host)),
    };
    UpgradeOutput { text, is_done: reply["result"] == "upgraded" }
}

/// The reply as a line for people.
fn line(reply: &Value) -> String {
    let text = |value: &Value| escape_controls(value.as_str().unwrap_or_default()).into_owned();
    let process = |of: &Value| format!("PID {} (version {})", of["pid"], text(&of["version"]));
    let error = &reply["error"];
    match error["code"].as_str() {
        None => format!("upgraded: {} serves, {} drains", process(reply), process(&reply["predecessor"])),
        Some("upgrade_refused") => format!("refused: {}", text(&error["message"])),
        Some("upgrade_stopped") => format!("stopped: {}", text(&error["message"])),
        Some(_) => format!("failed, the gateway goes on: {}", text(&error["message"])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// G8: a reply is one line, and no text of the gateway controls a terminal
    #[test]
    fn a_reply_is_a_line() {
        let done = json!({ "result": "upgraded", "pid": 8, "version": "0.2.0",
            "predecessor": { "pid": 7, "version": "0.1.0" } });
        assert_eq!(line(&done), "upgraded: PID 8 (version 0.2.0) serves, PID 7 (version 0.1.0) drains");
        let refused = json!({ "error": { "code": "upgrade_refused", "message": "a\u{1b}[2J" } });
        assert_eq!(line(&refused), "refused: a\\u001b[2J");
        let stopped = json!({ "error": { "code": "upgrade_stopped", "message": "a" } });
        assert_eq!(line(&stopped), "stopped: a");
        let failed = json!({ "error": { "code": "upgrade_failed", "message": "b" } });
        assert_eq!(line(&failed), "failed, the gateway goes on: b");
    }
}
