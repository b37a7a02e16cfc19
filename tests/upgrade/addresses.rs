//! Upgrades to another configuration: broken ones, and other addresses.

use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;

use tokio::net::TcpStream;

use super::Upgradable;
use crate::support::{Gateway, Upstream, get, wait_for};

/// A gateway with its ports in the file, which a test writes anew.
async fn with_file(upstream: &Upstream) -> Upgradable {
    let builder = Gateway::builder().without("server.port").without("server.workers");
    Upgradable::start(builder.config(&text(upstream, 0, ""))).await
}

fn text(upstream: &Upstream, port: u16, more: &str) -> String {
    format!(
        "server.port = {port}\nserver.workers = 2\n{more}\n[buckets.b]\nauth = [\"anonymous\"]\n[buckets.b.s3]\nendpoints = \
         [\"http://{}\"]\n",
        upstream.address()
    )
}

impl Upgradable {
    fn write(&self, text: &str) {
        fs::write(self.gateway.directory().join("tidegate.toml"), text).unwrap();
    }
}

/// G8: with a broken configuration the new process ends; the reply and the log have its error, and the old process goes on
#[tokio::test]
async fn a_broken_configuration_is_reported() {
    let upstream = Upstream::ok("x");
    let running = with_file(&upstream).await;
    running.write(&text(&upstream, 0, "server.prot = 1"));
    let message = running.not_upgraded(422, "upgrade_failed").await;
    assert!(message.contains("the new process failed: server.prot: unknown key"), "{message}");
    let line = running.gateway.wait_for_log_line("upgrade failed, the gateway goes on", |_| true).await;
    assert_eq!(line["detail"].as_str().unwrap(), message);
    assert_eq!(running.gateway.stderr(), "", "the error is reported once");
    running.write(&text(&upstream, 0, "log.output = \"/nowhere/at/all.log\""));
    let message = running.not_upgraded(422, "upgrade_failed").await;
    assert!(message.contains("/nowhere/at/all.log"), "{message}");
    assert_eq!(running.gateway.status().await["predecessors"].as_array().unwrap().len(), 0);
}

/// G8: a port that another program has is reported, and the old process goes on
#[tokio::test]
async fn a_taken_port_is_reported() {
    let upstream = Upstream::ok("x");
    let running = with_file(&upstream).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    running.write(&text(&upstream, address.port(), ""));
    let message = running.not_upgraded(422, "upgrade_failed").await;
    assert!(message.contains(&format!("server.port: cannot listen on {address}")), "{message}");
}

/// G8: with another port the new process listens there, and the old port is closed; a key that takes a restart changes too
#[tokio::test]
async fn an_upgrade_changes_what_takes_a_restart() {
    let upstream = Upstream::ok("x");
    let mut running = with_file(&upstream).await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let more = "server.write_stall_timeout = 33\nmetrics.namespace = \"other\"";
    running.write(&text(&upstream, address.port(), more));
    running.upgraded().await;
    assert_eq!(get(address, "/b/k").await.complete_status(), 200);
    let old: SocketAddr = running.gateway.address();
    wait_for("the old port is closed", || async {
        let refused = TcpStream::connect(old).await;
        refused.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused).then_some(())
    })
    .await;
    running.wait_for_end_of_predecessor().await;
    assert!(running.gateway.metrics().await.contains("other_"));
    assert_eq!(upstream.count(), 1);
}
