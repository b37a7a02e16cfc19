//! Programs that do not come up: the gateway goes on, with one clear error and no leak.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use rustix::process::{Pid, Signal, kill_process};

use super::Upgradable;
use crate::support::{Client, Gateway, Upstream, client, wait_until};

/// A frame of the protocol.
fn frame(message: &str) -> Vec<u8> {
    let mut bytes = u32::try_from(message.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend_from_slice(message.as_bytes());
    bytes
}

fn hello(magic: &str, protocol: u32) -> Vec<u8> {
    frame(&format!(
        r#"{{"message":"hello","magic":"{magic}","protocol":{protocol},"version":"9.9.9","pid":1}}"#
    ))
}

impl Upgradable {
    /// Puts a script at the place of the program that sends these bytes, stores all bytes that it receives in the file `received`, and
    /// does not end by itself.
    fn replace_by_sender(&self, bytes: &[u8]) {
        fs::write(self.gateway.directory().join("bytes"), bytes).unwrap();
        self.replace_by_script("cat bytes >&0\nexec cat > received");
    }

    /// The bytes that this script has received.
    fn received(&self) -> Vec<u8> {
        fs::read(self.gateway.directory().join("received")).unwrap_or_default()
    }

    /// Puts a program at the place that asks for the state and hangs then.
    pub(super) fn replace_by_hanging(&self) {
        let mut bytes = hello("tidegate-upgrade", 1);
        bytes.extend(frame(r#"{"message":"prepared","sockets":["data","admin"]}"#));
        self.replace_by_sender(&bytes);
    }

    /// Waits until this program has the state. It is sent after the gateway has stopped to accept.
    pub(super) async fn wait_for_state(&self) {
        wait_until("the hand-over has begun", || {
            String::from_utf8_lossy(&self.received()).contains(r#"{"message":"state""#)
        })
        .await;
    }

    /// Upgrades to a program that gets the state and is killed then.
    pub(super) async fn fail_hand_over(&self) {
        self.replace_by_hanging();
        let ((status, reply), ()) = tokio::join!(self.upgrade(), async {
            self.wait_for_state().await;
            let begun = self.gateway.wait_for_log_line("upgrade begins", |_| true).await;
            let pid = Pid::from_raw(i32::try_from(begun["pid"].as_i64().unwrap()).unwrap()).unwrap();
            kill_process(pid, Signal::KILL).unwrap();
        });
        assert_eq!((status, reply["error"]["code"].as_str()), (422, Some("upgrade_failed")), "{reply}");
        assert!(reply["error"]["message"].as_str().unwrap().contains("signal: 9"), "{reply}");
        self.wait_until_alone().await;
    }

    /// Waits until every program that it has started has ended.
    pub(super) async fn wait_until_alone(&self) {
        wait_until("the started programs have ended", || self.successors().is_empty()).await;
    }
}

/// G8: an upgrade after a failed one is like the first: the old process drains and exits, and the successor shows it until then
#[tokio::test]
async fn an_upgrade_after_failed_ones_ends_the_old_process() {
    let upstream = Upstream::ok("x");
    let mut running = Upgradable::in_front_of(&upstream).await;
    for _ in 0..2 {
        running.replace_by("/bin/false");
        running.not_upgraded(422, "upgrade_failed").await;
        running.replace_by(super::BINARY);
        let first = running.gateway.pid();
        let successor = running.upgraded().await;
        running.wait_for_end_of_predecessor().await;
        assert_ne!(first, successor);
        assert_eq!(running.gateway.get("/b/k").await.complete_status(), 200);
    }
}

/// G8: a program that fails, is another one, sends nothing or has another protocol is ended; the error names what it did, it has received
/// no secret, and no descriptor stays open
#[tokio::test]
async fn another_program_leaves_the_old_process_serving() {
    let upstream = Upstream::ok("x");
    let builder = Gateway::builder().bucket("b", &upstream).set("server.upgrade_timeout", "3");
    let running = Upgradable::start(builder).await;
    let gateway = &running.gateway;
    let message = |words: &'static str, found: String| assert!(found.contains(words), "{words}: {found}");
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);

    running.replace_by("/bin/false");
    message("ended before it reported itself", running.not_upgraded(422, "upgrade_failed").await);
    let before = gateway.open_descriptors();
    message("exit status: 1", running.not_upgraded(422, "upgrade_failed").await);
    running.replace_by("/bin/cat");
    message("ended before it reported itself", running.not_upgraded(422, "upgrade_failed").await);
    running.replace_by_script("kill -9 $$");
    message("signal: 9", running.not_upgraded(422, "upgrade_failed").await);
    running.replace_by_script("exec sleep 600");
    message("it hung before it reported itself", running.not_upgraded(422, "upgrade_failed").await);
    running.replace_by_script("exec cat > received");
    message("nothing came within 3 s", running.not_upgraded(422, "upgrade_failed").await);
    for bytes in [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), frame("{}"), hello("another", 1)] {
        running.replace_by_sender(&bytes);
        message("is not a tidegate", running.not_upgraded(422, "upgrade_failed").await);
    }
    running.replace_by_sender(&hello("tidegate-upgrade", 0));
    message("(version 9.9.9) has protocol 0", running.not_upgraded(422, "upgrade_failed").await);
    assert_eq!(running.received(), b"", "nothing was sent before the first message");
    fs::remove_file(&running.program).unwrap();
    message("cannot be started", running.not_upgraded(422, "upgrade_failed").await);

    running.wait_until_alone().await;
    wait_until("no descriptor stays open", || gateway.open_descriptors() <= before).await;
    let failed = || {
        let lines = gateway.log_lines();
        lines.iter().filter(|line| line["msg"] == "upgrade failed, the gateway goes on").count()
    };
    wait_until("each failure is in the log", || failed() >= 11).await;
    assert_eq!(failed(), 11, "one error for each");
}

/// G8, G3: a file that was cut off, or that others can write, replaces no running gateway, as at a reload
#[tokio::test]
async fn a_file_that_a_reload_refuses_ends_no_gateway() {
    let upstream = Upstream::ok("x");
    let text =
        format!("[buckets.b]\nauth = [\"anonymous\"]\ns3.endpoints = [\"http://{}\"]\n", upstream.address());
    let running = Upgradable::start(Gateway::builder().config(&text)).await;
    let file = running.gateway.directory().join("tidegate.toml");
    for (content, mode, words) in [
        ("", 0o600, "is empty"),
        ("# no bucket\n", 0o600, "none is configured, and a gateway that runs needs one"),
        (text.as_str(), 0o666, "can be written by other users (mode 0666)"),
    ] {
        fs::write(&file, content).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let message = running.not_upgraded(422, "upgrade_failed").await;
        assert!(message.contains(words), "{words}: {message}");
    }
    running.wait_until_alone().await;
}

/// G8: a program that hangs during the hand-over is ended; connections that came meanwhile have waited, and are served
#[tokio::test]
async fn a_hand_over_that_hangs_loses_no_connection() {
    let upstream = Upstream::ok("x");
    let builder = Gateway::builder().bucket("b", &upstream).set("server.upgrade_timeout", "10");
    let running = Upgradable::start(builder).await;
    running.replace_by_hanging();
    let failing = async {
        let (status, reply) = running.upgrade().await;
        assert_eq!((status, reply["error"]["code"].as_str()), (422, Some("upgrade_failed")), "{reply}");
        let message = reply["error"]["message"].as_str().unwrap();
        assert!(message.contains("it hung during the hand-over of the state"), "{message}");
    };
    let waiting = async {
        running.wait_for_state().await;
        let mut clients = Vec::new();
        for _ in 0..20 {
            let mut client = Client::connect(running.gateway.address()).await;
            client.send(client::message("GET", "/b/k", &[], None)).await;
            clients.push(client);
        }
        assert_eq!(upstream.count(), 0, "they wait in the backlog");
        for client in &mut clients {
            assert_eq!(client.response("GET").await.complete_status(), 200);
        }
    };
    tokio::join!(failing, waiting);
    running.wait_until_alone().await;
    running.replace_by_script("exit 7");
    assert!(running.not_upgraded(422, "upgrade_failed").await.contains("exit status: 7"));
}
