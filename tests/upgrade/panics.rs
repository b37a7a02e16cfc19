//! Upgrades that end by a panic, and stops during an upgrade: the gateway accepts again, or ends in its normal time.

use super::Upgradable;
use crate::support::client::message;
use crate::support::{Client, Gateway, Upstream, wait_until};

/// G8, S2: a panic of the upgrade while no process accepts ends the new process; the gateway accepts again, keeps new connections, and can
/// be upgraded
#[tokio::test]
async fn a_panic_ends_only_the_upgrade() {
    let upstream = Upstream::ok("x");
    let mut running = Upgradable::start(Gateway::builder().bucket("b", &upstream).chaos()).await;
    for place in ["hand_over", "accept"] {
        let armed = running.gateway.post(&format!("/upgrade/crash?at={place}")).await;
        assert_eq!(armed.complete_status(), 202, "{}", armed.text());
        let failure = running.not_upgraded(422, "upgrade_failed").await;
        assert!(failure.contains("a defect of tidegate"), "{failure}");
        running.wait_until_alone().await;
        let mut clients = Vec::new();
        for _ in 0..4 {
            clients.push(Client::connect(running.gateway.address()).await);
        }
        for client in &mut clients {
            client.send(message("GET", "/b/k", &[], None)).await;
            let answer = client.response("GET").await;
            assert_eq!((answer.complete_status(), answer.header("connection")), (200, None), "{place}");
        }
        let status = running.gateway.status().await;
        assert!(status["drain"].is_null() && status["predecessors"] == serde_json::json!([]), "{status}");
    }
    wait_until("both panics are in the log", || {
        let lines = running.gateway.log_lines();
        lines.iter().filter(|line| line["panic"] == "chaos panic in an upgrade").count() == 2
    })
    .await;
    running.upgraded().await;
    running.wait_for_end_of_predecessor().await;
}

/// G8, E3: a place that does not exist and a gateway without chaos are refused
#[tokio::test]
async fn a_panic_needs_chaos_and_a_place() {
    let upstream = Upstream::ok("x");
    let running = Upgradable::start(Gateway::builder().bucket("b", &upstream).chaos()).await;
    let wrong = running.gateway.post("/upgrade/crash?at=start").await;
    assert!(wrong.complete_status() == 400 && wrong.text().contains("unknown_place"), "{}", wrong.text());
    let without = Upgradable::in_front_of(&upstream).await;
    let refused = without.gateway.post("/upgrade/crash").await;
    assert!(refused.complete_status() == 403 && refused.text().contains("chaos_off"), "{}", refused.text());
}

/// G8, G4: SIGTERM after a panic that took a hand-over back drains as always
#[tokio::test]
async fn a_gateway_stops_after_a_panic() {
    let upstream = Upstream::ok("x");
    let mut running = Upgradable::start(Gateway::builder().bucket("b", &upstream).chaos()).await;
    running.gateway.post("/upgrade/crash?at=accept").await;
    running.not_upgraded(422, "upgrade_failed").await;
    running.gateway.send_sigterm();
    assert_eq!(running.gateway.wait_exit().await.code(), Some(0));
    let drain = running.gateway.wait_for_log_line("draining", |_| true).await;
    assert_eq!(
        (&drain["cause"], &drain["delay_ms"]),
        (&"signal".into(), &0.into()),
        "no time of a predecessor"
    );
}

/// G8, G4: a stop while no process accepts ends the new process and is no failure; connections that wait are served, and the gateway drains
#[tokio::test]
async fn a_stop_during_the_hand_over_serves_those_who_wait() {
    let upstream = Upstream::ok("x");
    let mut running = Upgradable::in_front_of(&upstream).await;
    running.replace_by_hanging();
    let ((status, reply), mut waiting) = tokio::join!(running.upgrade(), async {
        running.wait_for_state().await;
        let mut waiting = Client::connect(running.gateway.address()).await;
        waiting.send(message("GET", "/b/k", &[], None)).await;
        running.gateway.send_sigterm();
        waiting
    });
    assert_eq!((status, reply["error"]["code"].as_str()), (409, Some("upgrade_stopped")), "{reply}");
    assert!(reply["error"]["message"].as_str().unwrap().contains("this one drains"), "{reply}");
    assert_eq!(waiting.response("GET").await.complete_status(), 200);
    assert_eq!(running.gateway.wait_exit().await.code(), Some(0));
    running.gateway.wait_for_log_line("upgrade ended by the stop of the gateway", |_| true).await;
    let lines = running.gateway.log_lines();
    assert!(!lines.iter().any(|line| line["msg"] == "upgrade failed, the gateway goes on"), "{lines:?}");
    wait_until("the new process has ended", || running.successors().is_empty()).await;
}
