//! Bad input of reloads: the state before it goes on, with every problem in one reply, and many reloads at once lose nothing.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{apply, file_of, open_bucket, problem_keys, wait_until_retired, write};
use crate::support::{Gateway, Upstream, request, wait_for};

/// A bucket, a key with its secret in a file, and a number that differs in each version.
fn text(upstream: &Upstream, secret: &std::path::Path, version: u32) -> String {
    format!(
        "[server]\nrevoke_grace = {version}\n{}[policies.all]\nbuckets = [\"b\"]\nmethods = [\"read\"]\n\
         [keys.m]\npolicy = \"all\"\nsecret_file = {secret:?}\n",
        open_bucket("b", &[upstream], "")
    )
}

/// A gateway with the first version, and the file of its secret.
async fn start(upstream: &Upstream) -> (Gateway, std::path::PathBuf) {
    let builder = Gateway::builder();
    let secret = builder.directory().join("secret");
    write(&secret, "a-secret-of-the-key", 0o600);
    // With one worker the number of idle upstream connections does not depend on the thread that a client meets.
    let builder = builder.set("server.workers", "1");
    (builder.config(&text(upstream, &secret, 1)).start().await, secret)
}

/// The value in effect.
async fn grace(gateway: &Gateway) -> Value {
    let config: Value = serde_json::from_slice(&gateway.admin("/config").await.body).unwrap();
    let keys = config["keys"].as_array().unwrap();
    keys.iter().find(|key| key["key"] == "server.revoke_grace").unwrap()["value"].clone()
}

/// G3: each kind of bad input is refused with its keys; the old configuration goes on, and a good one is applied afterwards
#[tokio::test]
async fn the_old_configuration_goes_on() {
    let upstream = Upstream::ok("x");
    let (gateway, secret) = start(&upstream).await;
    let file = file_of(&gateway).display().to_string();
    let good = text(&upstream, &secret, 2);
    let restart = format!("{good}[metrics]\nnamespace = \"other\"\n[supervision]\nmax_restarts = 9\n");
    for (content, mode, keys) in [
        (&good[..good.find("http://").unwrap()], 0o600, vec![file.as_str()]),
        (good.as_str(), 0o622, vec![file.as_str()]),
        (&good.replace("revoke_grace = 2", "revoke_grace = -2"), 0o600, vec!["server.revoke_grace"]),
        (&good.replace("policy = \"all\"", "policy = \"none\""), 0o600, vec!["keys.m.policy"]),
        (&restart, 0o600, vec!["metrics.namespace", "supervision.max_restarts"]),
    ] {
        write(&file_of(&gateway), content, mode);
        let answer = gateway.post("/reload").await;
        assert_eq!(answer.complete_status(), 422, "{}", answer.text());
        let reply: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((problem_keys(&reply), &reply["configuration"]), (keys, &json!(1)), "{reply}");
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
        assert_eq!(grace(&gateway).await, 1);
    }
    fs::rename(&secret, secret.with_extension("away")).unwrap();
    write(&file_of(&gateway), &good, 0o600);
    gateway.send_sighup();
    let message = "configuration refused, the one before it stays in use";
    gateway.wait_for_log_line(message, |line| line["key"] == "keys.m.secret_file").await;
    assert_eq!((gateway.get("/b/k").await.complete_status(), grace(&gateway).await), (200, json!(1)));
    fs::rename(secret.with_extension("away"), &secret).unwrap();
    assert_eq!(apply(&gateway, &good).await["configuration"], 2, "a refused configuration has no number");
    assert_eq!(grace(&gateway).await, 2);
    wait_until_retired(&gateway, 1).await;
}

/// G3: a file that is cut off within a line or after the head of a section is refused, wherever that is
#[tokio::test]
async fn a_part_of_a_file_is_refused() {
    let upstream = Upstream::ok("x");
    let (gateway, secret) = start(&upstream).await;
    let good = text(&upstream, &secret, 2);
    let heads = good
        .match_indices("]\n")
        .map(|(at, _)| at + 2)
        .filter(|at| good[..*at].lines().last().unwrap().starts_with('['));
    let within_lines = (1..good.len()).filter(|at| !good[..*at].ends_with('\n'));
    for end in heads.chain(within_lines.step_by(3)) {
        write(&file_of(&gateway), &good[..end], 0o600);
        let answer = gateway.post("/reload").await;
        assert_eq!(answer.complete_status(), 422, "{:?}: {}", &good[..end], answer.text());
    }
    assert_eq!((gateway.get("/b/k").await.complete_status(), grace(&gateway).await), (200, json!(1)));
    assert_eq!(apply(&gateway, &good).await["configuration"], 2);
}

/// G3: a file that belongs to another user than root and the gateway's is refused. Only root can give a file away.
#[tokio::test]
async fn a_file_of_another_user_is_refused() {
    let upstream = Upstream::ok("x");
    let (gateway, secret) = start(&upstream).await;
    let file = file_of(&gateway);
    write(&file, &text(&upstream, &secret, 2), 0o600);
    let own_user = fs::metadata(&file).unwrap().uid();
    let given = chown(&file, Some(own_user + 4711), None);
    let answer = gateway.post("/reload").await;
    let reply: Value = serde_json::from_slice(&answer.body).unwrap();
    if given.is_err() {
        assert_eq!((own_user == 0, &reply["result"]), (false, &json!("applied")), "{reply}");
        return;
    }
    assert_eq!(
        (answer.complete_status(), problem_keys(&reply)),
        (422, vec![file.to_str().unwrap()]),
        "{reply}"
    );
    let message =
        format!("belongs to another user (ID {}), so a running gateway does not load it", own_user + 4711);
    assert_eq!(reply["problems"][0]["message"], message);
    chown(&file, Some(own_user), None).unwrap();
    assert_eq!(apply(&gateway, &text(&upstream, &secret, 2)).await["result"], "applied");
}

/// G3: of many reloads at once each is answered, the last state is in effect, and nothing is left
#[tokio::test]
async fn many_reloads_at_once() {
    let upstream = Upstream::ok("x");
    let (gateway, secret) = start(&upstream).await;
    apply(&gateway, &text(&upstream, &secret, 2)).await;
    wait_until_retired(&gateway, 1).await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    let (descriptors, threads) = (gateway.open_descriptors(), gateway.threads());
    let address = gateway.admin_address();
    for version in 3..8 {
        write(&file_of(&gateway), &text(&upstream, &secret, version), 0o600);
        (0..20).for_each(|_| gateway.send_sighup());
        let reloads = (0..4).map(|_| request(address, "POST", "/reload", &[], Some(b"")));
        for answer in join_all(reloads).await {
            let reply: Value = serde_json::from_slice(&answer.body).unwrap();
            let result = reply["result"].as_str().unwrap();
            assert!(["applied", "unchanged"].contains(&result), "{reply}");
            assert_eq!(answer.complete_status(), 200);
        }
        assert_eq!(grace(&gateway).await, version);
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    }
    let number = serde_json::from_slice::<Value>(&gateway.post("/reload").await.body).unwrap();
    assert_eq!((&number["result"], &number["configuration"]), (&json!("unchanged"), &json!(7)));
    for number in 2..7 {
        wait_until_retired(&gateway, number).await;
    }
    wait_for("no descriptor is left", || async { (gateway.open_descriptors() <= descriptors).then_some(()) })
        .await;
    assert!(gateway.threads() <= threads + 2, "{} threads, {threads} before", gateway.threads());
}

/// G3: twenty concurrent requests to reload are all answered
#[tokio::test]
async fn concurrent_requests_are_answered() {
    let upstream = Upstream::ok("x");
    let (gateway, secret) = start(&upstream).await;
    write(&file_of(&gateway), &text(&upstream, &secret, 9), 0o600);
    let address = gateway.admin_address();
    let reloads = (0..20).map(|_| request(address, "POST", "/reload", &[], Some(b"")));
    let mut results = Vec::new();
    for answer in join_all(reloads).await {
        assert_eq!(answer.complete_status(), 200, "{}", answer.text());
        let reply: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(reply["configuration"], 2, "{reply}");
        results.push(reply["result"].as_str().unwrap().to_owned());
    }
    assert!(results.iter().any(|result| result == "applied"), "{results:?}");
    assert_eq!(grace(&gateway).await, 9);
}
