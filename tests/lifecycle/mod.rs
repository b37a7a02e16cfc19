//! Process lifecycle: start, readiness, drain, exit codes and failing starts.

mod accepting;
mod drain;
mod reload;
mod signals;
mod worker_accept;

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::support::gateway::ExitReport;
use crate::support::{Client, Gateway, Latch, Upstream, UpstreamReply, client, get, put, wait_for};

/// Two of the same signal within this time count as one.
const REPEAT_WINDOW: Duration = Duration::from_millis(100);

fn holding() -> (Upstream, Latch) {
    let latch = Latch::new();
    let held = latch.clone();
    (Upstream::start(move |_| UpstreamReply::ok("begin").then_body_when_open(&held, "end")), latch)
}

/// A started download that lasts until the latch opens.
async fn download(gateway: &Gateway) -> (Client, crate::support::Response) {
    let mut client = Client::connect(gateway.address()).await;
    client.send(client::message("GET", "/b/k", &[], None)).await;
    let answer = client.head().await;
    assert_eq!(answer.status, 200);
    (client, answer)
}

/// G4, O5: on SIGTERM readiness turns false first, new connections are refused, requests in flight finish, and the exit
/// code is 0
#[tokio::test]
async fn a_terminated_gateway_drains_and_exits_0() {
    let (upstream, latch) = holding();
    let mut gateway = Gateway::in_front_of(&upstream).await;
    let (mut client, mut answer) = download(&gateway).await;
    gateway.send_sigterm();
    wait_for("ready turns false", || async {
        let answer = gateway.admin("/readyz").await;
        (answer.complete_status() == 503 && answer.text().contains("draining")).then_some(())
    })
    .await;
    assert_eq!(gateway.admin("/livez").await.complete_status(), 200, "liveness is 200 during the drain");
    assert_eq!(gateway.status().await["requests_in_flight"], 1);
    wait_for("new connections are refused", || async {
        let late = TcpStream::connect(gateway.address()).await;
        late.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused).then_some(())
    })
    .await;
    latch.open_for_all();
    client.body(&mut answer, "GET").await;
    assert_eq!((answer.complete_status(), answer.text().as_str()), (200, "beginend"));
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
    assert_eq!(upstream.count(), 1, "a connection made after the listener closed is not served");
    gateway.wait_for_log_line("draining", |line| line["in_flight"] == 1).await;
    let stopped = gateway.wait_for_log_line("stopped", |_| true).await;
    assert!(stopped["took_ms"].is_u64());
}

/// G4: without requests in flight it ends at once, despite idle connections
#[tokio::test]
async fn an_idle_gateway_ends_by_itself() {
    let upstream = Upstream::ok("x");
    let mut gateway =
        Gateway::builder().bucket("b", &upstream).set("server.drain_timeout", "600").start().await;
    let mut idle = Client::connect(gateway.address()).await;
    idle.send(client::message("GET", "/b/k", &[], None)).await;
    assert_eq!(idle.response("GET").await.complete_status(), 200);
    gateway.send_sigterm();
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
    let took = gateway.wait_for_log_line("stopped", |_| true).await["took_ms"].as_u64().unwrap();
    assert!(took < 300_000, "{took} ms: it waited for its drain time although nothing was in flight");
    wait_for("its upstream connections are closed", || async {
        (upstream.open_connections() == 0).then_some(())
    })
    .await;
}

/// G4: requests that exceed the drain timeout are cut and counted, and the client gets a broken transfer
#[tokio::test]
async fn the_drain_timeout_is_enforced() {
    let (upstream, _latch) = holding();
    let mut gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("server.drain_timeout", "0.3")
        .set("log.decisions", "true")
        .start()
        .await;
    let (mut client, mut answer) = download(&gateway).await;
    gateway.send_sigterm();
    assert_eq!(gateway.wait_exit().await.code(), Some(1), "a forced end must be visible in the exit code");
    client.body(&mut answer, "GET").await;
    assert!(answer.broken.is_some(), "a transfer that was cut off looks whole");
    gateway
        .wait_for_log_line("drain timeout reached: unfinished requests and connections are cut off", |line| {
            line["cut_off"] == 1
        })
        .await;
    // The client has closed nothing.
    let request = gateway.wait_for_log_line("request", |line| line["reason"] == "drain_timeout").await;
    let decided = gateway.wait_for_log_line("decision", |line| line["reason"] == "drain_timeout").await;
    assert_eq!((&decided["kind"], &decided["id"]), (&"cut".into(), &request["id"]));
}

/// G4, O4: a request that is cut before its response begins has a decision, as a refusal has
#[tokio::test]
async fn a_request_that_is_cut_before_its_response_is_decided() {
    let upstream = Upstream::start(|_| UpstreamReply::hang());
    let mut gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("server.drain_timeout", "0.3")
        .set("log.decisions", "true")
        .start()
        .await;
    let mut client = Client::connect(gateway.address()).await;
    client.send(client::message("GET", "/b/k", &[], None)).await;
    wait_for("the upstream has the request", || async { (upstream.count() == 1).then_some(()) }).await;
    gateway.send_sigterm();
    assert_eq!(gateway.wait_exit().await.code(), Some(1));
    let request = gateway.wait_for_log_line("request", |line| line["reason"] == "drain_timeout").await;
    assert_eq!(request["status"], 0);
    let decided = gateway.wait_for_log_line("decision", |line| line["reason"] == "drain_timeout").await;
    assert_eq!((&decided["kind"], &decided["id"]), (&"refusal".into(), &request["id"]));
}

/// G4: a second signal ends the process at once
#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let (upstream, _latch) = holding();
    let mut gateway =
        Gateway::builder().bucket("b", &upstream).set("server.drain_timeout", "600").start().await;
    let (_client, _) = download(&gateway).await;
    gateway.send_sigterm();
    gateway.wait_for_log_line("draining", |_| true).await;
    tokio::time::sleep(REPEAT_WINDOW * 2).await;
    gateway.send_sigterm();
    assert_eq!(gateway.wait_exit().await.code(), Some(1));
    gateway.wait_for_log_line("second signal: ending at once", |_| true).await;
}

/// Bad input: a port in use ends the start with 69 and names config key and address; no child process or file remains
#[tokio::test]
async fn a_port_in_use_is_named() {
    let upstream = Upstream::ok("x");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for key in ["server.port", "admin.port"] {
        let builder = Gateway::builder().bucket("b", &upstream).set(key, &address.port().to_string());
        let ExitReport { code, stderr, .. } =
            tokio::task::spawn_blocking(move || builder.run()).await.unwrap();
        assert_eq!(code, Some(69), "{stderr}");
        assert!(stderr.contains(key) && stderr.contains(&address.to_string()), "{stderr}");
        assert_eq!(stderr.trim().lines().count(), 1, "one clear error: {stderr}");
    }
}

/// Bad input: an unwritable data directory ends the start with 73 and names it
#[test]
fn an_unwritable_data_directory_is_named() {
    for unwritable in ["a file", "a directory without write permission"] {
        let builder = Gateway::builder();
        let path = builder.directory().join("tidegate-data");
        if unwritable == "a file" {
            std::fs::write(&path, "in the way").unwrap();
        } else {
            std::fs::create_dir(&path).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o500)).unwrap();
            // Root can write to every directory.
            if std::fs::write(path.join("probe"), "").is_ok() {
                continue;
            }
        }
        let ExitReport { code, stderr, .. } = builder.run();
        assert_eq!(code, Some(73), "{unwritable}: {stderr}");
        assert!(stderr.contains("tidegate-data"), "{unwritable}: {stderr}");
        assert_eq!(stderr.trim().lines().count(), 1, "one clear error: {stderr}");
    }
}

/// Bad input: a log file that cannot be opened ends the start with 73 and names the config key and the file
#[test]
fn a_log_file_that_cannot_be_opened_is_named() {
    let ExitReport { code, stderr, .. } = Gateway::builder().set("log.output", "/nowhere/at/all.log").run();
    assert_eq!(code, Some(73), "{stderr}");
    assert!(stderr.contains("log.output") && stderr.contains("/nowhere/at/all.log"), "{stderr}");
}

/// G4: the exit code of `tidegate health` shows whether a gateway is live
#[tokio::test]
async fn health_reports_by_its_exit_code() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    let check = |port: u16| {
        let builder = Gateway::builder().set("admin.port", &port.to_string()).argument("health");
        tokio::task::spawn_blocking(move || builder.run())
    };
    let alive = check(gateway.admin_address().port()).await.unwrap();
    assert_eq!((alive.code, alive.stderr.as_str()), (Some(0), ""));
    let nobody = crate::support::unreachable::RefusingAddress::new();
    let dead = check(nobody.address.port()).await.unwrap();
    assert_eq!(dead.code, Some(1), "{}", dead.stderr);
    assert!(dead.stderr.contains(&nobody.address.to_string()), "{}", dead.stderr);
}

/// G4: without configuration there is a bucket `demo` on a real store, and example commands
#[tokio::test]
async fn without_configuration_there_is_a_demo_bucket() {
    let mut gateway = Gateway::builder().start().await;
    assert_eq!(put(gateway.address(), "/demo/hello%20world.txt", "hello").await.complete_status(), 200);
    let answer = get(gateway.address(), "/demo/hello%20world.txt").await;
    assert_eq!((answer.complete_status(), answer.text().as_str()), (200, "hello"));
    let listing = get(gateway.address(), "/demo?list-type=2").await;
    assert!(listing.text().contains("<Key>hello world.txt</Key>"), "{}", listing.text());
    let welcome = gateway.stderr();
    for words in [
        gateway.url("/demo/hello.txt"),
        format!("http://{}/status", gateway.admin_address()),
        "aws ".to_owned(),
    ] {
        assert!(welcome.contains(&words), "{words} in {welcome}");
    }
    assert!(gateway.directory().join("tidegate-data").is_dir());
    gateway.send_sigterm();
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
}
