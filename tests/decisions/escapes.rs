//! Replies of the admin listener that repeat text of a request: it is escaped.

use serde_json::{Value, json};

use super::made_up::post;
use crate::support::{Gateway, Upstream};

/// O2, O6: characters that control a terminal or reorder its text are escaped in every reply that repeats text of the request
#[tokio::test]
async fn text_of_the_request_is_escaped() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    let hostile = "a\u{1b}]0;x\u{7}\u{9b}2J\u{7f}\u{202e}\u{2066}\u{2028}\u{feff}z";
    let encoded: String = hostile.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let is_control =
        |c: char| c != '\n' && (c.is_control() || "\u{202e}\u{2066}\u{2028}\u{feff}".contains(c));
    let bodies = [
        json!({ "url": format!("/{encoded}/k"), "client": "127.0.0.1" }),
        json!({ "url": format!("/b/{encoded}?{encoded}={encoded}"), "client": "127.0.0.1" }),
        json!({ "url": format!("/b/k?X-Amz-Algorithm={encoded}&X-Amz-Credential={encoded}&X-Amz-SignedHeaders={encoded}") }),
        json!({ "url": "/\u{202e}\u{2066}/k", "client": "127.0.0.1" }),
        json!({ "url": "/b/k", "method": hostile }),
        json!({ "url": "/b/k", "headers": { "host": hostile } }),
        json!({ "url": "/b/k", "headers": { (hostile): "x" } }),
        json!({ "url": "/b/k", (hostile): "x" }),
        json!(hostile),
    ];
    let mut replies = Vec::new();
    for body in bodies {
        replies.push(post(&gateway, &body.to_string()).await);
    }
    for target in ["/decisions", "/explain", "/metrics"] {
        replies.push(gateway.admin(&format!("{target}?{encoded}=x")).await);
    }
    for reply in &replies {
        let text = reply.text();
        assert!(!text.contains(is_control), "{}", text.escape_debug());
        let document: Value = serde_json::from_slice(&reply.body).unwrap();
        let sentences = document["steps"].as_array().into_iter().flatten().map(|step| &step["sentence"]);
        for sentence in sentences.chain([&document["error"]["message"]]).filter_map(Value::as_str) {
            assert!(!sentence.contains(is_control), "{}", sentence.escape_debug());
        }
    }
    let shown = |at: usize| replies[at].text().contains("\\\\u202e\\\\u2066");
    assert!(shown(7), "an unknown field: {}", replies[7].text());
    assert!(shown(9), "an unknown parameter: {}", replies[9].text());
}
