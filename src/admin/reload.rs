//! `POST /reload` loads the configuration again and applies it; `GET /config/diff` shows what that would change, and applies nothing (G3).
//!
//! The gateway implements [`ReloadRequests`]. Here are the routes and the JSON of their replies. No reply shows a secret (C4): hidden
//! values have a text in their place, and problems never quote them.

use std::future::Future;
use std::pin::Pin;

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};
use tidegate_config::{ConfigDiff, Problem};

use crate::admin::config::{change, object};
use crate::admin::decisions::unexpected_query;
use crate::admin::problem::problem;
use crate::http::error::{AdminStatus, json_reply};
use crate::http::request_id;
use crate::process::last_reload::ReloadResult;
use crate::request_head::HeaderView;

/// The result of a request to reload.
pub(crate) type ReloadFuture = Pin<Box<dyn Future<Output = ReloadReply>>>;

/// Loads the configuration of the running gateway again.
pub(crate) trait ReloadRequests: Send + Sync {
    /// Loads, checks and applies it. A client that leaves does not end the reload.
    fn reload(&self) -> ReloadFuture;

    /// Loads and checks it, and applies nothing.
    fn preview(&self) -> ReloadFuture;
}

/// What a reload found and did.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReloadReply {
    /// The number of the configuration in use after it.
    pub(crate) number: u64,
    /// What differs from the configuration in use before it. Empty if the new one could not be read.
    pub(crate) diff: ConfigDiff,
    /// Why the configuration before it stays in use.
    pub(crate) problems: Vec<Problem>,
    /// The warnings about the new configuration.
    pub(crate) warnings: Vec<Problem>,
    /// Whether the new configuration is in use.
    pub(crate) is_applied: bool,
}

impl ReloadReply {
    /// The result of a reload, or of a preview; none if a preview found a configuration that a reload would apply.
    pub(crate) fn result(&self) -> Option<ReloadResult> {
        match self {
            Self { problems, .. } if !problems.is_empty() => Some(ReloadResult::Refused),
            Self { is_applied: true, .. } => Some(ReloadResult::Applied),
            Self { diff, .. } if diff.is_empty() => Some(ReloadResult::Unchanged),
            Self { .. } => None,
        }
    }

    /// The result as a word.
    fn word(&self) -> &'static str {
        self.result().map_or("applicable", ReloadResult::as_str)
    }

    /// The result as a sentence.
    pub(crate) fn summary(&self) -> String {
        let number = self.number;
        match (self.problems.as_slice(), self.is_applied) {
            ([], true) => format!("configuration {number} is in use"),
            ([], false) => format!("configuration {number} stays in use: nothing has changed"),
            ([first, more @ ..], _) => {
                let more = if more.is_empty() { String::new() } else { format!(" ({} more)", more.len()) };
                format!(
                    "configuration refused, {number} stays in use: {}: {}{more}",
                    first.key, first.message
                )
            }
        }
    }
}

/// `POST /reload`.
pub(super) async fn reload(request: HttpRequest, requests: Data<dyn ReloadRequests>) -> HttpResponse {
    if let Some(refused) = unexpected_query(&request) {
        return refused;
    }
    let reply = requests.reload().await;
    if reply.problems.is_empty() {
        return json_reply(AdminStatus::Ok, &document(&reply));
    }
    let mut document = document(&reply);
    let id = request_id::of(HeaderView::of(request.headers()));
    document["error"] = json!({
        "code": "reload_refused",
        "message": "the configuration is refused, and the one before it stays in use; `problems` has every reason",
        "request_id": id.to_str().unwrap_or_default(),
    });
    json_reply(AdminStatus::Unprocessable, &document)
}

/// `GET /config/diff`.
pub(super) async fn diff(request: HttpRequest, requests: Data<dyn ReloadRequests>) -> HttpResponse {
    if let Some(refused) = unexpected_query(&request) {
        return refused;
    }
    json_reply(AdminStatus::Ok, &document(&requests.preview().await))
}

/// The reply as JSON.
fn document(reply: &ReloadReply) -> Value {
    let object = |key: &Option<_>| key.as_ref().map(object);
    let changes = reply.diff.iter().map(|key| change(object(&key.old).as_ref(), object(&key.new).as_ref()));
    let problems = |problems: &[Problem]| problems.iter().map(problem).collect::<Vec<_>>();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "result": reply.word(),
        "configuration": reply.number,
        "changes": changes.collect::<Vec<_>>(),
        "problems": problems(&reply.problems),
        "warnings": problems(&reply.warnings),
    })
}

#[cfg(test)]
mod tests {
    use tidegate_config::{Loaded, Sources, load_with_warnings};

    use super::*;

    const BUCKET: &str = "[buckets.b.s3]\nendpoints = [\"http://store\"]\naccess_key_id = \"A\"\n";

    fn loaded(text: &str) -> Loaded {
        load_with_warnings(Sources::default().text("t.toml", text)).unwrap()
    }

    /// G3, C4: a change has both values and its origin, a secret has none, and a key that needs a restart has the reason
    #[test]
    fn a_reply_has_every_change() {
        let first = loaded(&format!("server.port = 8001\n{BUCKET}secret_access_key = \"hunter2\""));
        let second = loaded(&format!(
            "server.port = 8002\nserver.keep_alive = 7\n{BUCKET}secret_access_key = \"hunter3\"\n[buckets.c.s3]\nendpoints = [\"http://d\"]\n"
        ));
        let diff = ConfigDiff::of(&first.effective, &second.effective);
        let problems: Vec<Problem> = diff.check().unwrap_err().iter().cloned().collect();
        let document = document(&ReloadReply { number: 3, diff, problems, ..ReloadReply::default() });
        assert!(!document.to_string().contains("hunter"), "{document}");
        assert_eq!((&document["result"], &document["configuration"]), (&json!("refused"), &json!(3)));
        let changes = document["changes"].as_array().unwrap();
        let of = |name: &str| changes.iter().find(|change| change["key"] == name).unwrap();
        let port = json!({ "key": "server.port", "change": "changed", "old": 8001, "new": 8002, "is_hidden": false, "unit": null,
            "origin": { "kind": "file", "name": "t.toml", "line": 1 }, "restart": "the listening sockets are opened once" });
        assert_eq!(of("server.port"), &port);
        assert_eq!(
            (&of("server.keep_alive")["old"], &of("server.keep_alive")["unit"]),
            (&json!(75), &json!("s"))
        );
        let secret = of("buckets.b.s3.secret_access_key");
        assert_eq!(
            (&secret["old"], &secret["new"], &secret["is_hidden"]),
            (&json!("(set)"), &json!("(set)"), &json!(true))
        );
        let added = of("buckets.c.s3.endpoints");
        assert_eq!(
            (&added["change"], &added["old"], &added["restart"]),
            (&json!("added"), &Value::Null, &Value::Null)
        );
        let problem = &document["problems"][0];
        assert_eq!((&problem["key"], &problem["origin"]["line"]), (&json!("server.port"), &json!(1)));
    }

    /// G3: the result of a reload as a word
    #[test]
    fn a_reply_has_its_result() {
        let bucket = "[buckets.b.s3]\nendpoints = [\"http://store\"]\n";
        let of = |reply: ReloadReply| reply.word();
        let first = loaded(bucket);
        let diff = || {
            ConfigDiff::of(&first.effective, &loaded(&format!("log.level = \"warn\"\n{bucket}")).effective)
        };
        assert_eq!(of(ReloadReply::default()), "unchanged");
        assert_eq!(of(ReloadReply { diff: diff(), ..ReloadReply::default() }), "applicable");
        assert_eq!(of(ReloadReply { diff: diff(), is_applied: true, ..ReloadReply::default() }), "applied");
        let problems = vec![Problem::of_process("a", "b", None)];
        assert_eq!(of(ReloadReply { problems, ..ReloadReply::default() }), "refused");
    }
}
