//! Actions that refuse requests: uploads of the lowest priority first, then all requests; and the limit of one client.

use serde_json::{Value, json};

use super::{MODES, Pressure, action, assert_touched, causes, decision, reaches};
use crate::status::{has_begun, has_ended};
use crate::support::client::put;
use crate::support::gateway::Builder;
use crate::support::{Client, Gateway, Response, Upstream, UpstreamReply, client, request, wait_for};

const LOW: &str = "buckets.b.s3.concurrency.priority.write";
const SHADOW: &str = "x-tidegate-shadow";

/// An upload by form without a signature.
const FORM: &str = "--B\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nk\r\n\
                    --B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\nx\r\n--B--\r\n";
const FORM_TYPE: (&str, &str) = ("content-type", "multipart/form-data; boundary=B");

fn id(answer: &Response) -> &str {
    answer.header("x-request-id").unwrap()
}

/// A gateway with low writes in bucket `b` and normal ones in bucket `c`.
fn with_low_writes(pressure: &Pressure) -> Builder {
    pressure.gateway().bucket("c", &pressure.upstream).set(LOW, "low")
}

/// X6, X2: at critical writes with the priority low are refused before their body is read; other writes and all reads are served
#[tokio::test]
async fn low_uploads_are_refused_before_reads() {
    let mut pressure = Pressure::new(|_| UpstreamReply::ok("x"));
    let gateway = with_low_writes(&pressure).start().await;
    assert_eq!(put(gateway.address(), "/b/k", "x").await.complete_status(), 200, "the level is normal");
    pressure.raise(&gateway).await;

    // The head suffices: no byte of the body is sent.
    let mut waiting = Client::connect(gateway.address()).await;
    waiting.send("PUT /b/k HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n").await;
    let refused = waiting.response("PUT").await;
    assert_eq!((refused.complete_status(), refused.reason()), (503, "shed_upload"), "{refused:?}");
    assert_eq!(refused.element("Code").as_deref(), Some("SlowDown"));
    assert!(refused.retry_after().is_some_and(|seconds| (1..=2).contains(&seconds)), "{refused:?}");
    assert!(refused.header("proxy-status").unwrap().contains("connection_limit_reached"), "{refused:?}");
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    assert_eq!(put(gateway.address(), "/c/k", "x").await.complete_status(), 200);
    assert_touched(&gateway, "shed_uploads", "enforce", 1).await;

    let record = decision(&gateway, id(&refused), "refusal").await;
    assert_eq!((&record["reason"], &record["shadow"]), (&"shed_upload".into(), &false.into()), "{record}");
    assert_eq!((&record["scope"], &record["threshold"]), (&"process".into(), &90.into()), "{record}");
    assert_eq!(record["config"]["key"], "monitor.critical", "{record}");
    assert_eq!(record["actor"]["name"], "monitor", "{record}");
    assert!(record["detail"].as_str().unwrap().starts_with("in_flight at 90.0 %"), "{record}");
    let cause = wait_for("the cause has the refusal", || async {
        let cause = causes(&gateway, "critical").await.pop()?;
        (cause["effect"]["refused"] == 1).then_some(cause)
    })
    .await;
    assert!(cause["effect"]["text"].as_str().unwrap().ends_with("shed_uploads"), "{cause}");

    let made_up = json!({ "method": "PUT", "url": "/b/k", "headers": { "content-length": "1" } }).to_string();
    let explained = request(gateway.admin_address(), "POST", "/explain", &[], Some(made_up.as_bytes())).await;
    let explained: Value = serde_json::from_slice(&explained.body).unwrap();
    assert_eq!(explained["outcome"], "refused", "{explained}");
    assert_touched(&gateway, "shed_uploads", "enforce", 1).await;

    // The priority of a form follows from its fields, so its file is not read.
    let form = async || request(gateway.address(), "POST", "/b", &[FORM_TYPE], Some(FORM.as_bytes())).await;
    assert_eq!(form().await.reason(), "shed_upload");
    assert_touched(&gateway, "shed_uploads", "enforce", 2).await;

    pressure.release(&gateway).await;
    assert_eq!(put(gateway.address(), "/b/k", "x").await.complete_status(), 200, "the level is normal");
    assert_eq!(form().await.complete_status(), 204, "the level is normal");
}

/// X11: in shadow mode an upload is served, counted and recorded, and its answer names the reason; with the mode off, or on a
/// higher level, it is only served
#[tokio::test]
async fn uploads_in_shadow_mode_are_served_and_counted() {
    for (key, value, touched) in [("mode", "shadow", 1), ("mode", "off", 0), ("on_level", "exhausted", 0)] {
        let mut pressure = Pressure::new(|_| UpstreamReply::ok("x"));
        let gateway =
            with_low_writes(&pressure).set(&format!("actions.shed_uploads.{key}"), value).start().await;
        pressure.raise(&gateway).await;
        let served = put(gateway.address(), "/b/k", "x").await;
        assert_eq!(served.complete_status(), 200, "{value}");
        assert_eq!(served.header(SHADOW), (touched == 1).then_some("shed_upload"), "{value}");
        assert_eq!(gateway.get("/b/k").await.header(SHADOW), None, "a read");
        assert_eq!(action(&gateway, "shed_uploads").await["touched"], touched, "{value}");
        if touched == 0 {
            continue;
        }
        let record = decision(&gateway, id(&served), "shadow").await;
        assert_eq!((&record["reason"], &record["shadow"]), (&"shed_upload".into(), &true.into()), "{record}");
        assert_eq!((&record["status"], &record["threshold"]), (&503.into(), &90.into()), "{record}");
        let cause = has_begun(&gateway, "action_shadow", "process").await;
        assert_eq!(
            (&cause["scope"]["name"], &cause["severity"]),
            (&"shed_uploads".into(), &"degraded".into())
        );
        assert_eq!(cause["measured"]["value"], 1.0, "{cause}");
        assert_eq!(gateway.errors("b").await, 0.0);
        pressure.release(&gateway).await;
        has_ended(&gateway, "action_shadow", "process").await;
    }
}

/// X8: memory that no request holds makes the level critical, but refuses no upload
#[tokio::test]
async fn memory_outside_requests_sheds_no_upload() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("monitor.memory_limit_bytes", "1MiB")
        .set("monitor.interval_ms", "20")
        .set(LOW, "low")
        .start()
        .await;
    reaches(&gateway, "critical").await;
    for _ in 0..20 {
        assert_eq!(put(gateway.address(), "/b/k", "x").await.complete_status(), 200);
    }
    let shed = action(&gateway, "shed_uploads").await;
    assert_eq!((&shed["in_force"], &shed["touched"]), (&false.into(), &0.into()), "{shed}");
    assert_eq!(action(&gateway, "retries").await["in_force"], true);
}

/// X2, X11: without descriptors all requests are refused; in shadow mode they are served, counted and recorded, and with the mode
/// off only served
#[tokio::test]
async fn requests_are_shed_by_mode() {
    for mode in MODES {
        let upstream = Upstream::ok("x");
        let gateway = Gateway::builder()
            .bucket("b", &upstream)
            .exhaust_at_half_of_descriptors()
            .set("actions.shed_requests.mode", mode)
            .set("server.ready_when_exhausted", "false")
            .start()
            .await;
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
        gateway.exhaust_descriptors();
        reaches(&gateway, "exhausted").await;
        let answer = gateway.get("/b/k").await;
        let (status, reason, shadow) = match mode {
            "enforce" => (503, "exhausted", None),
            "shadow" => (200, "", Some("exhausted")),
            _ => (200, "", None),
        };
        assert_eq!(
            (answer.complete_status(), answer.reason(), answer.header(SHADOW)),
            (status, reason, shadow)
        );
        assert_touched(&gateway, "shed_requests", mode, u64::from(mode != "off")).await;
        let ready = gateway.admin("/readyz").await.complete_status();
        assert_eq!(ready, if mode == "enforce" { 503 } else { 200 }, "{mode}");
        assert_eq!(gateway.metric("load_shed_total").await, f64::from(u8::from(mode == "enforce")));
        if mode != "off" {
            let kind = if mode == "enforce" { "refusal" } else { "shadow" };
            let record = decision(&gateway, id(&answer), kind).await;
            assert_eq!(
                (&record["reason"], &record["shadow"]),
                (&"exhausted".into(), &(mode == "shadow").into())
            );
            assert_eq!(record["config"]["key"], "monitor.exhausted", "{record}");
        }
    }
}

/// X2: `on_level` moves the refusal of all requests
#[tokio::test]
async fn requests_are_shed_on_another_level() {
    let mut pressure = Pressure::new(|_| UpstreamReply::ok("x"));
    let gateway = pressure.gateway().set("actions.shed_requests.on_level", "critical").start().await;
    pressure.raise(&gateway).await;
    let refused = gateway.get("/b/k").await;
    assert_eq!((refused.complete_status(), refused.reason()), (503, "exhausted"));
    let record = decision(&gateway, id(&refused), "refusal").await;
    assert_eq!(record["config"]["key"], "monitor.critical", "{record}");
    pressure.release(&gateway).await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
}

/// X11: the limit of one client in shadow mode serves, counts and records what it would refuse; `off` ignores the limit
#[tokio::test]
async fn the_limit_of_a_client_has_modes() {
    for mode in ["shadow", "off"] {
        let pressure = Pressure::new(|_| UpstreamReply::ok("x"));
        let gateway = pressure
            .gateway()
            .set("concurrency.max_per_client", "1")
            .set("concurrency.max_per_client_mode", mode)
            .start()
            .await;
        let mut first = Client::connect(gateway.address()).await;
        first.send(client::message("GET", "/b/held", &[], None)).await;
        pressure.upstream.wait_until_in_flight(1).await;
        let served = gateway.get("/b/k").await;
        let is_shadow = mode == "shadow";
        assert_eq!(served.complete_status(), 200);
        assert_eq!(served.header(SHADOW), is_shadow.then_some("client_concurrency"));
        let shadowed = gateway.metric("client_concurrency_shadowed_total").await;
        assert_eq!(shadowed, f64::from(u8::from(is_shadow)));
        assert_eq!(gateway.metric("client_concurrency_rejections_total").await, 0.0);
        if is_shadow {
            let record = decision(&gateway, id(&served), "shadow").await;
            assert_eq!((&record["measured"], &record["threshold"]), (&1.into(), &1.into()), "{record}");
            assert_eq!(record["config"]["key"], "concurrency.max_per_client", "{record}");
            let cause = has_begun(&gateway, "client_limit_shadow", "process").await;
            assert_eq!(cause["threshold"]["value"], 1.0, "{cause}");
        }
        pressure.latch.open_for_all();
        assert_eq!(first.response("GET").await.complete_status(), 200);
        if is_shadow {
            has_ended(&gateway, "client_limit_shadow", "process").await;
        }
    }
}
