//! Settings of the process and of buckets that a reload changes.

use std::fs;

use serde_json::Value;

use super::{OPERATOR, READER, apply, file_of, open_bucket, write};
use crate::support::{Client, Gateway, Response, Upstream, client, request, wait_for};

const APP: &str = "https://app.example.com";
const OTHER: &str = "https://other.example.com";

async fn preflight(gateway: &Gateway, origin: &str) -> (u16, Option<String>) {
    let headers = [("origin", origin), ("access-control-request-method", "GET")];
    let answer = request(gateway.address(), "OPTIONS", "/b/k", &headers, None).await;
    let allowed = answer.header("access-control-allow-origin").map(str::to_owned);
    (answer.complete_status(), allowed)
}

/// G3, A6: changed rules of CORS hold at once
#[tokio::test]
async fn cors_changes() {
    let upstream = Upstream::ok("x");
    let with = |origin: &str| {
        open_bucket("b", &[&upstream], "") + &format!("[buckets.b.cors]\nallowed_origins = [\"{origin}\"]\n")
    };
    let gateway = Gateway::builder().config(&with(APP)).start().await;
    let allowed = |origin: &str| (200, Some(origin.to_owned()));
    assert_eq!(
        (preflight(&gateway, APP).await, preflight(&gateway, OTHER).await),
        (allowed(APP), (403, None))
    );
    apply(&gateway, &with(OTHER)).await;
    assert_eq!(
        (preflight(&gateway, APP).await, preflight(&gateway, OTHER).await),
        ((403, None), allowed(OTHER))
    );
    let header = [("origin", OTHER)];
    let answer = request(gateway.address(), "GET", "/b/k", &header, None).await;
    assert_eq!((answer.complete_status(), answer.header("access-control-allow-origin")), (200, Some(OTHER)));
}

/// G3, O4: a changed log level and `log.access` hold at once
#[tokio::test]
async fn the_log_changes() {
    let upstream = Upstream::ok("x");
    let bucket = open_bucket("b", &[&upstream], "");
    let with = |log: &str| format!("{bucket}[log]\n{log}\n");
    let gateway = Gateway::builder().config(&with("level = \"info\"")).start().await;
    let get = async |path: &str| {
        let answer = gateway.get(path).await;
        assert_eq!(answer.complete_status(), 200);
        answer.header("x-request-id").unwrap().to_owned()
    };
    let first = get("/b/first").await;
    gateway.wait_for_access_line(&first).await;
    apply(&gateway, &with("access = false")).await;
    let second = get("/b/second").await;
    apply(&gateway, &with("level = \"error\"")).await;
    let third = get("/b/third").await;
    apply(&gateway, &with("level = \"info\"")).await;
    let last = get("/b/last").await;
    gateway.wait_for_access_line(&last).await;
    let has_line =
        |id: &str| gateway.log_lines().iter().any(|line| line["msg"] == "request" && line["id"] == id);
    assert_eq!([has_line(&second), has_line(&third)], [false, false]);
}

/// G3, X2: changed thresholds of the monitor change the level
#[tokio::test]
async fn thresholds_of_the_monitor_change() {
    let upstream = Upstream::ok("x");
    let bucket = open_bucket("b", &[&upstream], "");
    let with = |warning: u8| {
        format!("{bucket}[monitor]\ninterval_ms = 20\nwarning = {warning}\ncritical = 99\nexhausted = 100\n")
    };
    let gateway = Gateway::builder().config(&with(98)).start().await;
    // two thirds are in use
    gateway.exhaust_descriptors();
    let level = |expected: &'static str| {
        let gateway = &gateway;
        wait_for(expected, move || async move { (gateway.status().await["level"] == expected).then_some(()) })
    };
    level("normal").await;
    apply(&gateway, &with(40)).await;
    level("warning").await;
    apply(&gateway, &with(98)).await;
    level("normal").await;
}

/// A GET at the admin listener with a token.
async fn with_token(gateway: &Gateway, method: &str, path: &str, token: &str) -> Response {
    let authorization = format!("Bearer {token}");
    let body = (method == "POST").then_some(&b""[..]);
    request(gateway.admin_address(), method, path, &[("authorization", &authorization)], body).await
}

/// G3, O5: a changed token of the admin listener holds at once: the former one, its sessions and its streams end
#[tokio::test]
async fn tokens_of_the_admin_listener_change() {
    let upstream = Upstream::ok("x");
    let bucket = open_bucket("b", &[&upstream], "");
    let with = |token: &str| format!("{bucket}[admin]\ntoken = \"{token}\"\nread_token = \"{READER}\"\n");
    let next = "another-0123456789abcdef0123456789abc";
    let gateway = Gateway::builder().config(&with(OPERATOR)).start().await;
    let login = with_token(&gateway, "POST", "/session", OPERATOR).await;
    let cookie = login.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let by_cookie = async || {
        request(gateway.admin_address(), "GET", "/status", &[("cookie", &cookie)], None)
            .await
            .complete_status()
    };
    assert_eq!(by_cookie().await, 200);
    let authorization = format!("Bearer {OPERATOR}");
    let mut watcher = Client::connect(gateway.admin_address()).await;
    watcher.send(client::message("GET", "/status/stream", &[("authorization", &authorization)], None)).await;
    assert_eq!(watcher.head().await.status, 200);

    write(&file_of(&gateway), &with(next), 0o600);
    let reply = with_token(&gateway, "POST", "/reload", OPERATOR).await;
    let reply: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(reply["result"], "applied", "{reply}");
    assert!(!reply.to_string().contains(next), "{reply}");
    assert_eq!(with_token(&gateway, "GET", "/status", OPERATOR).await.complete_status(), 401);
    assert_eq!(by_cookie().await, 401);
    for token in [next, READER] {
        assert_eq!(with_token(&gateway, "GET", "/status", token).await.complete_status(), 200);
    }
    while watcher.read_some().await.is_ok() {}
    // the former token changes nothing
    assert_eq!(with_token(&gateway, "POST", "/reload", OPERATOR).await.complete_status(), 401);
    assert_eq!(with_token(&gateway, "POST", "/reload", next).await.complete_status(), 200);
}

/// G3, O5: a changed list of names of the admin listener holds at once
#[tokio::test]
async fn hosts_of_the_admin_listener_change() {
    let upstream = Upstream::ok("x");
    let bucket = open_bucket("b", &[&upstream], "");
    let with = |hosts: &str| format!("{bucket}[admin]\nhosts = [{hosts}]\n");
    let builder = Gateway::builder().without("admin.hosts").config(&with("\"gateway.test\""));
    let gateway = builder.start().await;
    assert_eq!(gateway.admin("/status").await.complete_status(), 200);
    fs::write(file_of(&gateway), with("\"other.test\"")).unwrap();
    assert_eq!(gateway.post("/reload").await.complete_status(), 200);
    let refused = gateway.admin("/status").await;
    assert_eq!(refused.complete_status(), 403, "{}", refused.text());
}

/// Opens so many connections with a served request. Returns them and the number that the gateway has open.
async fn connections(gateway: &Gateway, count: usize) -> (Vec<Client>, u64) {
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = Client::connect(gateway.address()).await;
        client.send(client::message("GET", "/b/k", &[("connection", "keep-alive")], None)).await;
        assert_eq!(client.response("GET").await.complete_status(), 200);
        clients.push(client);
    }
    let open = gateway.status().await["clients"]["open"].as_u64().unwrap();
    (clients, open)
}

/// G3, X8, X9: the shares of the descriptors are those of the current configuration: fewer upstream connections leave more for clients,
/// and so does a higher `monitor.exhausted`
#[tokio::test]
async fn the_shares_of_the_descriptors_change() {
    let upstream = Upstream::ok("x");
    let with = |concurrent: u32, exhausted: u32| {
        let more = format!("concurrency.max_concurrent = {concurrent}\nconnection_pool.max_idle = 2");
        open_bucket("b", &[&upstream], &more) + &format!("[monitor]\nexhausted = {exhausted}\n")
    };
    let builder = Gateway::builder().set("monitor.descriptor_limit", "200");
    let gateway = builder.config(&with(500, 95)).start().await;
    let (clients, open) = connections(&gateway, 90).await;
    assert!(open < 85, "half of the descriptors are for the store: {open}");
    drop(clients);

    let first = gateway.wait_for_log_line("descriptor limit", |_| true).await;
    let clients_max = |line: &Value| line["clients_max"].as_u64().unwrap();
    apply(&gateway, &with(4, 95)).await;
    let second =
        gateway.wait_for_log_line("descriptor limit", |line| clients_max(line) > clients_max(&first)).await;
    let (mut clients, open) = connections(&gateway, 90).await;
    assert!(open >= 90, "{open} of 90");
    clients[0].send(client::message("GET", "/b/k", &[], None)).await;
    assert_eq!(clients[0].response("GET").await.complete_status(), 200, "the oldest one is open");
    apply(&gateway, &with(4, 98)).await;
    gateway.wait_for_log_line("descriptor limit", |line| clients_max(line) > clients_max(&second)).await;
}
