//! The log format for people.

use crate::support::{Gateway, Upstream, wait_for};

/// O2: a line for people has no field that does not apply, and the same fields as JSON otherwise
#[tokio::test]
async fn a_line_for_people_leaves_out_what_does_not_apply() {
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
