//! The log's terminal format.

use crate::support::{Gateway, Upstream, wait_for};

/// O2: a terminal line omits fields that do not apply, and otherwise has the fields of JSON
#[tokio::test]
async fn a_terminal_line_omits_fields_that_do_not_apply() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).start_with_terminal_log().await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    let file = gateway.directory().join("log");
    let line = wait_for("the request is logged", || async {
        let text = std::fs::read_to_string(&file).unwrap();
        text.lines().find(|line| line.contains("INFO request, ")).map(str::to_owned)
    })
    .await;
    let (_, fields) = line.split_once("request, ").unwrap();
    let names: Vec<&str> = fields.split(", ").map(|field| field.split_once(": ").unwrap().0).collect();
    for absent in ["query", "reason", "detail", "key", "subject", "hedge", "credential"] {
        assert!(!names.contains(&absent), "{line}");
    }
    for present in
        ["id", "method", "path", "bucket", "status", "client", "received_bytes", "attempts", "total_us"]
    {
        assert!(names.contains(&present), "no {present}: {line}");
    }
    assert!(!line.contains("None") && !line.contains(": ,"), "{line}");
}
