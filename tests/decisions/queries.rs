//! `GET /decisions`: selection, limits, malformed queries, and the memory of the rings.

use serde_json::Value;

use super::{decisions, document};
use crate::support::client::message;
use crate::support::{Client, Gateway, Upstream, request};

/// O4: each parameter selects, and the newest decision is first
#[tokio::test]
async fn parameters_select_decisions() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .bucket("other", &upstream)
        .set("buckets.other.anonymous", "read")
        .start()
        .await;
    for (id, method, target) in
        [("one", "GET", "/nowhere/k"), ("two", "PATCH", "/b/k"), ("three", "PUT", "/other/k")]
    {
        request(gateway.address(), method, target, &[("x-request-id", id)], Some(b"")).await;
    }
    let ids = async |query: &str| -> Vec<String> {
        let found = decisions(&gateway, query).await;
        found.iter().map(|one| one["request_id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids("").await, ["three", "two", "one"]);
    assert_eq!(ids("limit=2").await, ["three", "two"]);
    assert_eq!(ids("request_id=two").await, ["two"]);
    assert_eq!(ids("reason=no_such_bucket").await, ["one"]);
    assert_eq!(ids("bucket=other").await, ["three"]);
    assert_eq!(ids("client=127.0.0.1").await, ["three", "two", "one"]);
    assert_eq!(ids("client=%3A%3Affff%3A127.0.0.1&limit=1").await, ["three"]);
    assert_eq!(ids("client=10.0.0.1").await, Vec::<String>::new());
    assert_eq!(ids("since=1h").await.len(), 3);
    assert_eq!(ids("since=2101-01-31T18:00:00Z").await, Vec::<String>::new());
    let all = document(&gateway, "").await;
    let at = all["decisions"][1]["at"].as_str().unwrap().to_owned();
    assert!(ids(&format!("since={at}")).await.len() >= 2, "from {at} on");
}

/// O4: a malformed query gets a 400 that names the parameter
#[tokio::test]
async fn a_malformed_query_is_refused() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    for (target, named) in [
        ("/decisions?colour=red", "`colour`"),
        ("/decisions?limit=many", "`limit`"),
        ("/decisions?limit=0", "`limit`"),
        ("/decisions?limit=5&limit=6", "`limit`"),
        ("/decisions?since=yesterday", "`since`"),
        ("/decisions?bucket=nowhere", "`bucket`"),
        ("/decisions?reason=Not%20a%20reason", "`reason`"),
        ("/decisions?request_id=a%22b", "`request_id`"),
        ("/decisions?client=", "`client`"),
        ("/decisions?%00=1", "there is no parameter"),
        ("/explain", "`request_id`"),
        ("/explain?id=1", "`id`"),
        ("/explain?request_id=", "`request_id`"),
    ] {
        let answer = gateway.admin(target).await;
        assert_eq!(answer.complete_status(), 400, "{target}: {}", answer.text());
        let error: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(error["error"]["code"], "invalid_parameter", "{error}");
        assert!(error["error"]["message"].as_str().unwrap().contains(named), "{target}: {error}");
    }
}

/// O4: a full ring keeps new decisions, samples a flood of equal ones, reports that, and counts all
#[tokio::test]
async fn a_full_ring_keeps_the_newest_and_counts() {
    const REFUSALS: u64 = 400;
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("server.workers", "1")
        .set("log.decision_memory", "64KiB")
        .start()
        .await;
    for number in 0..REFUSALS {
        let id = number.to_string();
        request(gateway.address(), "GET", "/nowhere/k", &[("x-request-id", id.as_str())], None).await;
    }
    let found = document(&gateway, "limit=1000").await;
    let kept = found["decisions"].as_array().unwrap();
    assert_eq!(
        (&found["recorded"], &found["sampled"]),
        (&REFUSALS.into(), &true.into()),
        "{}",
        found["kept"]
    );
    let number = |field: &str| found[field].as_u64().unwrap();
    assert_eq!(number("kept") + number("overwritten") + number("sampled_out"), REFUSALS);
    assert!(number("memory_bytes") <= 64 << 10, "{}", found["memory_bytes"]);
    assert!(kept.len() > 50 && (kept.len() as u64) < REFUSALS, "{}", kept.len());
    let ids: Vec<u64> = kept.iter().map(|one| one["request_id"].as_str().unwrap().parse().unwrap()).collect();
    assert!(ids.is_sorted_by(|newer, older| newer > older), "the newest first: {ids:?}");
    assert!(ids[0] >= REFUSALS - 16, "one of the last is kept: {}", ids[0]);
    let count = &found["counts"][0];
    assert_eq!(
        (&count["reason"], &count["scope"], &count["count"]),
        (&"no_such_bucket".into(), &"request".into(), &REFUSALS.into())
    );
}

/// O4: a flood of one reason does not push the decisions of another out of a full ring
#[tokio::test]
async fn a_flood_leaves_other_decisions_in_memory() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("server.workers", "1")
        .set("log.decision_memory", "1MiB")
        .start()
        .await;
    let mut client = Client::connect(gateway.address()).await;
    let flood = message("GET", "/nowhere/k", &[], None).repeat(100);
    let mut refuse = async |times: u32| {
        for _ in 0..times {
            client.send(flood.clone()).await;
            for _ in 0..100 {
                client.response("GET").await;
            }
        }
    };
    refuse(20).await;
    let rare = [("x-request-id", "rare"), ("x-request-timeout", "nonsense")];
    assert_eq!(request(gateway.address(), "GET", "/b/k", &rare, None).await.reason(), "deadline");
    refuse(30).await;
    let found = document(&gateway, "request_id=rare").await;
    assert_eq!(found["decisions"][0]["reason"], "deadline", "{found}");
    assert!(found["sampled_out"].as_u64().unwrap() > 0, "{found}");
}

/// O4: without memory nothing is kept, and the counts are exact
#[tokio::test]
async fn no_memory_keeps_nothing() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).set("log.decision_memory", "0").start().await;
    let answer = gateway.get("/nowhere/k").await;
    let found = document(&gateway, "").await;
    assert_eq!((&found["decisions"], &found["memory_bytes"]), (&Value::Array(Vec::new()), &0.into()));
    assert_eq!((&found["recorded"], &found["counts"][0]["count"]), (&1.into(), &1.into()));
    let id = super::id(&answer);
    let story = gateway.admin(&format!("/explain?request_id={id}")).await;
    assert_eq!(story.complete_status(), 404);
}
