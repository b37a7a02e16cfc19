//! Upgrades that are refused before anything starts.

use super::{Upgradable, with_slow_download};
use crate::support::{Client, Gateway, Upstream, client, put};

/// G8: while the predecessor of the last upgrade drains, another upgrade is refused: there is no third process
#[tokio::test]
async fn a_third_process_is_refused() {
    let (upstream, latch) = with_slow_download();
    let mut running = Upgradable::in_front_of(&upstream).await;
    let mut download = Client::connect(running.gateway.address()).await;
    download.send(client::message("GET", "/b/slow", &[], None)).await;
    let mut answer = download.head().await;
    running.upgraded().await;
    let refusal = running.not_upgraded(409, "upgrade_refused").await;
    let words = format!("(PID {}) still drains, and a third process is refused", running.gateway.pid());
    assert!(refusal.contains(&words), "{refusal}");
    assert_eq!(running.successors().len(), 1);
    latch.open_for_all();
    download.body(&mut answer, "GET").await;
    assert_eq!(answer.complete_status(), 200);
    drop(download);
    running.wait_for_end_of_predecessor().await;
    running.upgraded().await;
}

/// G8: an upgrade while another one runs is refused, and so is one of a gateway that drains
#[tokio::test]
async fn two_upgrades_at_a_time_are_refused() {
    let (upstream, latch) = with_slow_download();
    let running = Upgradable::start(
        Gateway::builder()
            .bucket("b", &upstream)
            .set("server.upgrade_timeout", "3")
            .set("server.drain_timeout", "600"),
    )
    .await;
    running.replace_by_script("exec sleep 600");
    let (first, second) = tokio::join!(running.upgrade(), async {
        running.gateway.wait_for_log_line("upgrade begins", |_| true).await;
        running.not_upgraded(409, "upgrade_refused").await
    });
    assert_eq!(first.0, 422, "{}", first.1);
    assert!(second.contains("an upgrade runs already"), "{second}");

    let mut download = Client::connect(running.gateway.address()).await;
    download.send(client::message("GET", "/b/slow", &[], None)).await;
    let mut answer = download.head().await;
    running.gateway.send_sigterm();
    running.gateway.wait_for_log_line("draining", |_| true).await;
    let (status, reply) = running.upgrade().await;
    assert_eq!((status, reply["error"]["code"].as_str()), (409, Some("upgrade_refused")), "{reply}");
    assert!(reply["error"]["message"].as_str().unwrap().contains("drains or stops"), "{reply}");
    latch.open_for_all();
    download.body(&mut answer, "GET").await;
}

/// G8: a stop during an upgrade ends the new process, and the gateway drains as always
#[tokio::test]
async fn a_stop_ends_the_upgrade() {
    let upstream = Upstream::ok("x");
    let mut running = Upgradable::in_front_of(&upstream).await;
    running.replace_by_script("exec sleep 600");
    running.gateway.signal(rustix::process::Signal::USR2);
    running.gateway.wait_for_log_line("upgrade begins", |_| true).await;
    running.gateway.send_sigterm();
    assert_eq!(running.gateway.wait_exit().await.code(), Some(0));
    crate::support::wait_until("the new process has ended", || running.successors().is_empty()).await;
}

/// G8: the files of the embedded origin have one writer, so a gateway with it is not upgraded
#[tokio::test]
async fn the_embedded_origin_is_not_upgraded() {
    let running = Upgradable::start(Gateway::builder()).await;
    assert_eq!(put(running.gateway.address(), "/demo/a", "x").await.complete_status(), 200);
    let (status, reply) = running.upgrade().await;
    assert_eq!((status, reply["error"]["code"].as_str()), (409, Some("upgrade_refused")), "{reply}");
    assert!(reply["error"]["message"].as_str().unwrap().contains("embedded origin"), "{reply}");
    assert_eq!(running.gateway.get("/demo/a").await.text(), "x");
}

/// G8, C3: a reader may not upgrade
#[tokio::test]
async fn a_reader_may_not_upgrade() {
    let upstream = Upstream::ok("x");
    let token = "reader-0123456789abcdef0123456789abcd";
    let builder = Gateway::builder().bucket("b", &upstream);
    let builder = builder.set("admin.token", "operator-0123456789abcdef0123456789ab");
    let running = Upgradable::start(builder.set("admin.read_token", token)).await;
    let authorization = format!("Bearer {token}");
    let headers = [("authorization", authorization.as_str())];
    let address = running.gateway.admin_address();
    let answer = crate::support::request(address, "POST", "/upgrade", &headers, Some(b"")).await;
    assert_eq!(answer.complete_status(), 403, "{}", answer.text());
    assert!(answer.text().contains("read_only"), "{}", answer.text());
    assert!(running.successors().is_empty());
}
