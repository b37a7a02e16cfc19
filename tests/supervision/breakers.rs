//! One breaker actor per bucket: isolation in a crash storm, and the memory of a thousand breakers.

use crate::support::{Gateway, Upstream, UpstreamReply, wait_for};

use super::restart_delay::{hold_down, is_failed};

async fn circuit(gateway: &Gateway, bucket: &str) -> serde_json::Value {
    gateway.status().await["buckets"][bucket]["breaker"]["read"].clone()
}

async fn reaches(gateway: &Gateway, bucket: &str, state: &str) {
    wait_for(&format!("the circuit of {bucket} is {state}"), || async {
        (circuit(gateway, bucket).await["state"] == state).then_some(())
    })
    .await;
}

/// S10, B2: during a crash storm in one bucket's breaker, another bucket's circuit opens, admits trials and closes
#[tokio::test]
async fn a_crash_storm_in_one_breaker_leaves_other_buckets_circuits_alone() {
    let stormy = Upstream::start(|_| UpstreamReply::status(500));
    let calm = Upstream::sequence(vec![
        UpstreamReply::status(500),
        UpstreamReply::status(500),
        UpstreamReply::ok("x"),
    ]);
    let mut builder = Gateway::builder().bucket("stormy", &stormy).bucket("calm", &calm).chaos();
    for bucket in ["stormy", "calm"] {
        let key = |key: &str| format!("buckets.{bucket}.s3.{key}");
        builder = builder
            .set(&key("retry.max_attempts"), "1")
            .set(&key("circuit_breaker.failure_threshold"), "2")
            .set(&key("circuit_breaker.timeout_seconds"), "0.2");
    }
    // The default intensity, so that the storm ends in a restart delay of some seconds.
    let gateway = builder.set("supervision.max_restarts", "5").start().await;
    hold_down(&gateway, "breaker:stormy").await;

    for _ in 0..2 {
        assert_eq!(gateway.get("/stormy/k").await.complete_status(), 500);
        assert_eq!(gateway.get("/calm/k").await.complete_status(), 500);
    }
    reaches(&gateway, "calm", "open").await;
    let trial = wait_for("the open time is over", || async {
        let answer = gateway.get("/calm/k").await;
        (answer.reason() != "breaker_open").then_some(answer)
    })
    .await;
    assert_eq!((trial.complete_status(), trial.reason()), (200, ""), "a trial needs the actor");
    assert_eq!(gateway.get("/calm/k").await.complete_status(), 200);
    reaches(&gateway, "calm", "closed").await;

    assert!(
        is_failed(&gateway, "breaker:stormy").await,
        "the storm outlasted the other bucket's whole cycle"
    );
    assert_eq!(
        circuit(&gateway, "stormy").await["state"],
        "closed",
        "its actor is down, so nothing opens it"
    );
    let calm = gateway.actor("breaker:calm").await;
    assert_eq!((&calm["restarts"], &calm["state"]), (&0.into(), &"running".into()));
    assert_eq!(gateway.metric("actor_restarts_total{actor=\"breaker:calm\"}").await, 0.0);
}

/// S10: chaos target `breaker` crashes the breakers of all buckets, `breaker:NAME` one
#[tokio::test]
async fn chaos_targets_one_breaker_or_all() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("a", &upstream).bucket("b", &upstream).chaos().start().await;
    let crash = async |name: &str| {
        let answer = gateway.post(&format!("/actors/{name}/crash")).await;
        (answer.complete_status(), serde_json::from_str::<serde_json::Value>(&answer.text()).unwrap())
    };
    assert_eq!(crash("breaker:a").await, (202, serde_json::json!({ "crashing": 1 })));
    gateway.wait_for_generation("breaker:a", 2).await;
    assert_eq!(gateway.generation("breaker:b").await, 1);
    assert_eq!(crash("breaker").await, (202, serde_json::json!({ "crashing": 2 })));
    gateway.wait_for_generation("breaker:a", 3).await;
    gateway.wait_for_generation("breaker:b", 2).await;
    for unknown in ["breaker:c", "brea", "breaker:"] {
        let (status, error) = crash(unknown).await;
        assert_eq!((status, &error["error"]["code"]), (404, &"unknown_actor".into()), "{unknown}");
    }
}

/// Resident memory of the gateway after all its actors run.
async fn resident_kib(buckets: usize) -> u64 {
    let upstream = Upstream::ok("x");
    let mut builder = Gateway::builder();
    for number in 0..buckets {
        builder = builder.bucket(&format!("b{number}"), &upstream);
    }
    let gateway = builder.start().await;
    assert_eq!(gateway.get("/b0/k").await.complete_status(), 200);
    assert_eq!(gateway.status().await["actors"].as_object().unwrap().len(), 3 + 2 * buckets);
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// S10: a thousand buckets start with little memory each. The release figure: `cargo test --release --test integration
/// a_thousand_buckets -- --nocapture`
#[tokio::test]
async fn a_thousand_buckets_stay_small() {
    const BUCKETS: usize = 1000;
    /// Actors, circuits, gate, metrics with their zero series, dialer, configuration with its listing, and causes of one bucket.
    const KIB_PER_BUCKET_MAX: u64 = 144;
    let (one, many) = (resident_kib(1).await, resident_kib(BUCKETS).await);
    let per_bucket = many.saturating_sub(one) / u64::try_from(BUCKETS - 1).unwrap();
    println!("idle RSS: {one} KiB with 1 bucket, {many} KiB with {BUCKETS}, {per_bucket} KiB per bucket");
    assert!(per_bucket <= KIB_PER_BUCKET_MAX, "{per_bucket} KiB per bucket");
}
