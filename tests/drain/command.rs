//! `tidegate drain` and `POST /drain`.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{begun, holding};
use crate::support::gateway::{Builder, ExitReport};
use crate::support::{Gateway, Upstream, unreachable, wait_until};

const OPERATOR: &str = "operator-0123456789abcdef0123456789ab";
const READER: &str = "reader-0123456789abcdef0123456789ab";

/// Begins `tidegate drain` with these arguments.
fn drain(builder: Builder, arguments: &[&str]) -> JoinHandle<ExitReport> {
    let builder = arguments.iter().fold(builder.argument("drain"), |builder, one| builder.argument(one));
    tokio::task::spawn_blocking(move || builder.run())
}

fn url(gateway: &Gateway) -> String {
    format!("http://{}", gateway.admin_address())
}

/// G4: the command begins the drain, prints its progress until the process has ended, and its exit code is 0 if all requests ended
#[tokio::test]
async fn the_command_follows_the_drain() {
    let ((photos, photos_latch), (videos, videos_latch)) = (holding(), holding());
    let builder = Gateway::builder().bucket("photos", &photos).bucket("videos", &videos);
    let mut gateway = builder.set("server.drain_timeout", "600").start().await;
    let mut held = Vec::new();
    for target in ["/photos/a", "/photos/b", "/videos/c"] {
        held.push(begun(&gateway, target).await);
    }
    let command = drain(Gateway::builder(), &[&url(&gateway)]);
    let line = gateway.wait_for_log_line("draining", |_| true).await;
    assert_eq!((&line["cause"], &line["in_flight"]), (&json!("request"), &json!(3)));
    gateway
        .wait_for_log_line("a drain is requested at the admin listener", |line| line["client"] == "127.0.0.1")
        .await;
    let status = gateway.status().await;
    let causes = status["causes"].as_array().unwrap();
    let message = "the process stops because of a request to its admin listener";
    assert!(causes.iter().any(|cause| cause["message"] == message), "{status}");
    photos_latch.open_for_all();
    gateway.wait_for_log_line("drain progress", |line| line["by_bucket"] == "videos 1").await;
    assert!(!command.is_finished(), "a request is left");
    videos_latch.open_for_all();
    for (client, answer) in &mut held {
        client.body(answer, "GET").await;
        assert_eq!(answer.complete_status(), 200);
    }
    let report = command.await.unwrap();
    assert_eq!((report.code, report.stderr.as_str()), (Some(0), ""), "{}", report.stdout);
    assert!(
        report.stdout.contains("3 requests (photos 2, videos 1), 0 streams, 3 connections, "),
        "{}",
        report.stdout
    );
    assert!(report.stdout.ends_with("drained: every request has ended\n"), "{}", report.stdout);
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
}

/// G4: its exit code is 1 if requests were cut off, and the last line has them by bucket
#[tokio::test]
async fn the_command_tells_what_was_cut_off() {
    let (photos, _latch) = holding();
    let builder = Gateway::builder().bucket("photos", &photos).set("server.drain_timeout", "0.3");
    let mut gateway = builder.start().await;
    let _held = begun(&gateway, "/photos/a").await;
    let report = drain(Gateway::builder(), &[&url(&gateway)]).await.unwrap();
    assert_eq!(report.code, Some(1), "{} {}", report.stdout, report.stderr);
    assert!(report.stdout.ends_with("drained: 1 request (photos 1) cut off\n"), "{}", report.stdout);
    assert_eq!(gateway.wait_exit().await.code(), Some(1));
}

/// G4, O5: without the token of operators nothing drains, and the exit code is 3, as for a gateway that cannot be reached
#[tokio::test]
async fn only_operators_drain() {
    let upstream = Upstream::ok("x");
    let builder = Gateway::builder().bucket("b", &upstream);
    let mut gateway = builder.set("admin.token", OPERATOR).set("admin.read_token", READER).start().await;
    let nobody = format!("http://{}", unreachable::RefusingAddress::new().address);
    let reader = || Gateway::builder().set("admin.read_token", READER);
    for (builder, target, part) in [
        (reader(), url(&gateway), "403: read_only: "),
        (Gateway::builder(), url(&gateway), "401: token_required: "),
        (reader(), nobody, "no connection to "),
    ] {
        let report = drain(builder, &[&target]).await.unwrap();
        assert_eq!(report.code, Some(3), "{}", report.stderr);
        assert!(report.stderr.contains(part), "{part}: {}", report.stderr);
    }
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    assert_eq!(gateway.get("/-/readyz").await.complete_status(), 200, "nothing drains");
    let report = drain(Gateway::builder().set("admin.token", OPERATOR), &[&url(&gateway)]).await.unwrap();
    assert_eq!((report.code, gateway.wait_exit().await.code()), (Some(0), Some(0)), "{}", report.stderr);
}

/// G4: `--no-wait` ends when the drain has begun; a further request changes nothing; the first signal afterwards is that of a supervisor,
/// and the second one ends the drain
#[tokio::test]
async fn a_requested_drain_survives_one_signal() {
    let (photos, _latch) = holding();
    let builder = Gateway::builder().bucket("photos", &photos).set("server.drain_timeout", "600");
    let mut gateway = builder.start().await;
    let _held = begun(&gateway, "/photos/a").await;
    let report = drain(Gateway::builder(), &["--no-wait", &url(&gateway)]).await.unwrap();
    assert_eq!((report.code, report.stderr.as_str()), (Some(0), ""));
    assert!(report.stdout.starts_with("draining ("), "{}", report.stdout);
    let again: Value = serde_json::from_slice(&gateway.post("/drain").await.body).unwrap();
    assert_eq!((&again["result"], &again["drain"]["cause"]), (&json!("draining"), &json!("request")));
    gateway.send_sigterm();
    let goes_on = "the drain goes on after a signal to stop, another one ends it at once";
    gateway.wait_for_log_line(goes_on, |_| true).await;
    assert_eq!(gateway.status().await["drain"]["requests"], 1);
    // Two signals within 100 ms are one.
    tokio::time::sleep(Duration::from_millis(200)).await;
    gateway.send_sigterm();
    assert_eq!(gateway.wait_exit().await.code(), Some(1));
}

/// G4: a process that ends without a result of its drain is exit code 1
#[tokio::test]
async fn a_killed_gateway_has_no_result() {
    let (photos, _latch) = holding();
    let builder = Gateway::builder().bucket("photos", &photos).set("server.drain_timeout", "600");
    let mut gateway = builder.start().await;
    let _held = begun(&gateway, "/photos/a").await;
    let command = drain(Gateway::builder(), &[&url(&gateway)]);
    gateway.wait_for_log_line("drain progress", |_| true).await;
    gateway.signal(rustix::process::Signal::KILL);
    gateway.wait_exit().await;
    wait_until("the command ends", || command.is_finished()).await;
    let report = command.await.unwrap();
    assert_eq!(report.code, Some(1), "{}", report.stdout);
    assert!(report.stdout.contains("without a result of its drain"), "{}", report.stdout);
}
