//! Secrets reach the new process by the channel alone.

use super::{Upgradable, proc_file};
use crate::support::{Gateway, Upstream, get, request, wait_for};

const TOKEN: &str = "operator-0123456789abcdef0123456789ab";
const SECRET: &str = "hunter2-hunter2-hunter2-hunter2-hunter2";

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// G8, C5: the secrets of variables hold after two upgrades, and are neither in the environment nor in the arguments of the new process
#[tokio::test]
async fn secrets_of_variables_are_handed_over() {
    let upstream = Upstream::ok("x");
    let builder = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.s3.access_key_id", "AKID")
        .set("buckets.b.s3.secret_access_key", SECRET)
        .set("admin.token", TOKEN)
        .set("server.keep_alive", "7");
    let mut running = Upgradable::start(builder).await;
    let authorization = format!("Bearer {TOKEN}");
    let headers = [("authorization", authorization.as_str())];
    let admin = running.gateway.admin_address();
    let ask = async |method: &str, path: &str| {
        let body = (method == "POST").then_some(&b""[..]);
        let answer = request(admin, method, path, &headers, body).await;
        assert_eq!(answer.complete_status(), 200, "{}", answer.text());
        serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap()
    };
    for upgrade in 0..2 {
        let reply = ask("POST", "/upgrade").await;
        let pid = u32::try_from(reply["pid"].as_u64().unwrap()).unwrap();
        assert_eq!(request(admin, "GET", "/status", &[], None).await.complete_status(), 401);
        for name in ["environ", "cmdline"] {
            let bytes = proc_file(pid, name);
            assert!(!contains(&bytes, SECRET) && !contains(&bytes, TOKEN), "{name} of upgrade {upgrade}");
        }
        assert!(contains(&proc_file(pid, "environ"), "TIDEGATE_SERVER__KEEP_ALIVE=7"));
        wait_for("its predecessor has ended", || async {
            ask("GET", "/status").await["predecessors"].as_array().unwrap().is_empty().then_some(())
        })
        .await;
        assert_eq!(get(running.gateway.address(), "/b/k").await.complete_status(), 200);
        let signed = upstream.last();
        assert!(signed.header("authorization").unwrap().contains("AKID"), "it signs as before");
    }
    let text = running.gateway.raw_log().join("\n");
    assert!(!text.contains(SECRET) && !text.contains(TOKEN));
    assert_eq!(running.gateway.wait_exit().await.code(), Some(0));
}
