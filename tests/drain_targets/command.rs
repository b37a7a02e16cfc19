//! `tidegate drain`: it waits until no request is left, and its exit code is the result.

use super::{Held, at, drains, end, get, holding, refusal, refused};
use crate::support::gateway::ExitReport;
use crate::support::{Gateway, Upstream, unreachable, wait_for};

/// Runs `tidegate drain` with these arguments.
async fn run(arguments: &[&str]) -> ExitReport {
    let builder = Gateway::builder().argument("drain");
    let builder = arguments.iter().fold(builder, |builder, one| builder.argument(one));
    tokio::task::spawn_blocking(move || builder.run()).await.unwrap()
}

fn url(gateway: &Gateway) -> String {
    format!("http://{}", gateway.admin_address())
}

/// G4: the command ends when the last request has, with the progress and exit code 0; `--end` ends the drain
#[tokio::test]
async fn the_command_waits_until_the_bucket_has_drained() {
    let (upstream, latch) = holding("x");
    let gateway = at(&[&upstream]).start().await;
    let held = Held::begin(&gateway, "/b/held").await;
    let url = url(&gateway);
    let at_gateway = url.clone();
    let command = tokio::spawn(async move {
        run(&["--bucket", "b", "--reason", "disk & more", "--expires", "1h", &at_gateway]).await
    });
    wait_for("the bucket drains", || async { (drains(&gateway).await.len() == 1).then_some(()) }).await;
    assert_eq!(refusal(&gateway, "/b/k").await, refused("bucket_draining"));
    assert_eq!(drains(&gateway).await[0]["reason"], "disk & more");
    assert!(!command.is_finished());
    latch.open_for_all();
    held.end().await;
    let report = command.await.unwrap();
    assert_eq!((report.code, report.stderr.as_str()), (Some(0), ""), "{}", report.stdout);
    let lines: Vec<_> = report.stdout.lines().collect();
    assert!(lines[0].starts_with("bucket b drains: 1 request left, the oldest for "), "{lines:?}");
    assert_eq!(lines.last(), Some(&"bucket b: drained"));

    let ended = run(&["--bucket", "b", "--end", &url]).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "bucket b: the drain has ended\n"));
    assert_eq!(get(&gateway, "/b/k").await, (200, "x".to_owned()));
    let again = run(&["--bucket", "b", "--end", &url]).await;
    assert_eq!((again.code, again.stdout.as_str()), (Some(0), "bucket b: it did not drain\n"));
}

/// G4: requests that are left at `--timeout` are exit code 1 and the drain goes on; `--no-wait` returns at once with 0
#[tokio::test]
async fn the_wait_is_bounded() {
    let ((upstream, latch), other) = (holding("x"), Upstream::ok("other"));
    let gateway = at(&[&upstream, &other]).start().await;
    let held = Held::begin_at_holding(&gateway).await;
    let (url, endpoint) = (url(&gateway), format!("http://{}", upstream.address()));
    let target = ["--bucket", "b", "--endpoint", endpoint.as_str(), url.as_str()];
    let busy = run(&[&target[..], &["--timeout", "1s"]].concat()).await;
    assert_eq!((busy.code, busy.stderr.as_str()), (Some(1), ""), "{}", busy.stdout);
    let name = format!("endpoint {} of bucket b", upstream.address());
    assert!(busy.stdout.starts_with(&format!("{name} drains: 1 request left")), "{}", busy.stdout);
    assert!(
        busy.stdout.ends_with("still busy at the end of --timeout; the drain goes on\n"),
        "{}",
        busy.stdout
    );
    let started = run(&[&target[..], &["--no-wait"]].concat()).await;
    assert_eq!(started.code, Some(0), "{}", started.stdout);
    assert_eq!(drains(&gateway).await.len(), 1);
    latch.open_for_all();
    held.end().await;
    let drained = run(&target).await;
    assert_eq!((drained.code, drained.stdout), (Some(0), format!("{name}: drained\n")));
}

/// G4: a drain that ends before the last request is exit code 1
#[tokio::test]
async fn the_end_of_the_drain_ends_the_wait() {
    let (upstream, latch) = holding("x");
    let gateway = at(&[&upstream]).start().await;
    let held = Held::begin(&gateway, "/b/held").await;
    let at_gateway = url(&gateway);
    let command = tokio::spawn(async move { run(&["--bucket", "b", &at_gateway]).await });
    wait_for("the bucket drains", || async { (drains(&gateway).await.len() == 1).then_some(()) }).await;
    end(&gateway, "bucket=b").await;
    let report = command.await.unwrap();
    assert_eq!(report.code, Some(1), "{}", report.stdout);
    assert!(report.stdout.contains("the drain has ended before the last request"), "{}", report.stdout);
    latch.open_for_all();
    held.end().await;
}

/// G4: an unknown name is exit code 1 with the known ones, an unreachable gateway 3, a wrong command line 2
#[tokio::test]
async fn a_refused_order_is_an_exit_code() {
    let upstream = Upstream::ok("x");
    let gateway = at(&[&upstream]).start().await;
    let url = url(&gateway);
    let unknown = run(&["--bucket", "none", &url]).await;
    assert_eq!(unknown.code, Some(1), "{}", unknown.stderr);
    assert!(unknown.stdout.contains("there is no bucket `none`; there is b"), "{}", unknown.stdout);
    let nobody = unreachable::RefusingAddress::new();
    let nowhere = run(&["--bucket", "b", &format!("http://{}", nobody.address)]).await;
    assert_eq!(nowhere.code, Some(3), "{}", nowhere.stderr);
    let wrong = run(&["--bucket", "b", "--expires", "soon", &url]).await;
    assert_eq!(wrong.code, Some(2), "{}", wrong.stderr);
    assert!(drains(&gateway).await.is_empty());
}
