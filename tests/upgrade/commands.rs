//! `tidegate upgrade` and SIGUSR2.

use rustix::process::Signal;

use super::Upgradable;
use crate::support::gateway::ExitReport;
use crate::support::{Gateway, Upstream};

async fn command(port: u16, arguments: &'static [&'static str]) -> ExitReport {
    let mut builder = Gateway::builder().set("admin.port", &port.to_string()).argument("upgrade");
    for argument in arguments {
        builder = builder.argument(argument);
    }
    tokio::task::spawn_blocking(move || builder.run()).await.unwrap()
}

/// G8: the command upgrades and exits with 0, with 1 if the upgrade fails, and with 3 if no gateway can be reached
#[tokio::test]
async fn the_command_upgrades() {
    let upstream = Upstream::ok("x");
    let mut running = Upgradable::in_front_of(&upstream).await;
    let port = running.gateway.admin_address().port();
    let first = running.gateway.pid();
    let done = command(port, &[]).await;
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{}", done.stdout);
    assert!(done.stdout.starts_with("upgraded: PID "), "{}", done.stdout);
    assert!(done.stdout.contains(&format!(" serves, PID {first} ")), "{}", done.stdout);
    running.wait_for_end_of_predecessor().await;

    running.replace_by("/bin/false");
    let failed = command(port, &[]).await;
    assert_eq!(failed.code, Some(1), "{}", failed.stderr);
    assert!(failed.stdout.starts_with("failed, the gateway goes on: "), "{}", failed.stdout);
    let document = command(port, &["--json"]).await;
    let document: serde_json::Value = serde_json::from_str(&document.stdout).unwrap();
    assert_eq!(document["error"]["code"], "upgrade_failed");

    let refusing = crate::support::unreachable::RefusingAddress::new();
    let unreachable = command(refusing.address.port(), &[]).await;
    assert_eq!(unreachable.code, Some(3), "{}", unreachable.stderr);
}

/// G8: SIGUSR2 upgrades, also the process that an upgrade has started
#[tokio::test]
async fn the_signal_upgrades() {
    let upstream = Upstream::ok("x");
    let mut running = Upgradable::in_front_of(&upstream).await;
    let done = "upgrade done: the new process serves, this one drains";
    running.gateway.signal(Signal::USR2);
    let second = running.gateway.wait_for_log_line(done, |_| true).await["pid"].clone();
    running.wait_for_end_of_predecessor().await;
    let pid = rustix::process::Pid::from_raw(i32::try_from(second.as_i64().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::USR2).unwrap();
    let third = running.gateway.wait_for_log_line(done, |line| line["pid"] != second).await;
    assert!(third["took_ms"].is_u64());
    running.gateway.wait_for_log_line("the predecessor has ended", |line| line["pid"] == second).await;
    assert_eq!(running.gateway.get("/b/k").await.complete_status(), 200);
}
