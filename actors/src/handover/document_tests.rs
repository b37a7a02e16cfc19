//! Documents that a process cannot have written, or one of another version (G8, S5).

use std::time::Duration;

use super::tests::{CONFIG, Process, client, prepared, run_actors, start};
use super::*;
use crate::pool::{CredentialError, CredentialId, DrainOrder, DrainTarget, EndpointId, FailureKind};
use crate::seeded_rng::SeededRng;

/// Replaces one value in `rate` at random, and adds and removes members.
fn corrupt(value: &mut serde_json::Value, rate: usize, rng: &mut SeededRng) {
    use serde_json::Value;
    const NUMBERS: [u64; 9] = [0, 1, 2, 127, 1_000_000, 4_294_967_295, 1 << 40, 1 << 63, u64::MAX];
    match value {
        Value::Number(number) if rng.one_in(rate) => *number = rng.choose(NUMBERS).into(),
        Value::Bool(is) if rng.one_in(rate) => *is = !*is,
        Value::String(text) if rng.one_in(rate) => text.push('?'),
        Value::Array(all) => {
            if rng.one_in(rate) {
                all.clear();
            }
            all.iter_mut().for_each(|one| corrupt(one, rate, rng));
        }
        Value::Object(members) => {
            if rng.one_in(rate) {
                members.insert("of_another_version".to_owned(), Value::from("?"));
            }
            members.retain(|_, _| !rng.one_in(rate));
            members.values_mut().for_each(|one| corrupt(one, rate, rng));
        }
        _ => {}
    }
}

/// G8, S5: a corrupted document crashes no actor, and the gateway serves afterwards
#[actix_rt::test]
async fn a_corrupted_document_crashes_nothing() {
    let before = Process::started(CONFIG);
    before.fail_calls(3).await;
    let now = clock::now();
    (0..5).for_each(|_| {
        before.pool().report_failure(EndpointId(1), FailureKind::Status, now, now);
    });
    before.pool().report_credential_error(CredentialId(0), CredentialError::Throttled(None));
    before.admitted(client(1)).await;
    let _retry = before.pool().acquire_retry().await.unwrap();
    let order = |expires| DrainOrder { ordered_by: "ann".to_owned(), reason: None, expires };
    let endpoint = DrainTarget::Endpoints(vec![EndpointId(2)]);
    before.pool().drain(endpoint, order(Some(Duration::from_secs(60)))).await.unwrap();
    before.pool().drain(DrainTarget::Bucket, order(None)).await.unwrap();
    run_actors().await;
    let document = serde_json::to_value(before.export(3).await).unwrap();
    let (mut imported, mut granted, mut retries) = (0, 0, 0);
    for seed in 0..200 {
        let (mut rng, mut document) = (SeededRng::new(seed), document.clone());
        let rate = rng.choose([20, 100, 300]);
        corrupt(&mut document, rate, &mut rng);
        let Ok(state) = serde_json::from_value::<ActorsState>(document) else { continue };
        imported += 1;
        let (after, launches) = prepared(CONFIG);
        after.import(state).await;
        start(launches);
        // A wrong document raises no limit: those are 20 of a client, 40 of all, 8 of the gate and 4 of each credential.
        let admitted = [after.admitted(client(1)).await, after.admitted(client(200)).await];
        assert!(admitted.iter().all(|count| *count <= 20), "seed {seed}: {admitted:?}");
        let permits = after.acquire_all().await;
        let with =
            |at: usize| permits.iter().filter(|permit| permit.credential() == Some(CredentialId(at))).count();
        assert!(permits.len() <= 8 && with(0) <= 4 && with(1) <= 4, "seed {seed}: {} permits", permits.len());
        granted += permits.len();
        for permit in &permits {
            let now = clock::now();
            after.pool().report_failure(permit.endpoint(), FailureKind::Timeout, now, now);
            after.pool().record_response(permit.endpoint(), Duration::from_millis(5), now);
        }
        retries += usize::from(after.pool().acquire_retry().await.is_some());
        drop(permits);
        after.actors.reserve_for_predecessor(&PredecessorUse::default());
        run_actors().await;
        assert_eq!(after.restarts(), 0, "seed {seed}");
        assert!(after.actors.monitor.acquire_slot().is_ok() && after.pool().limit() == 8);
    }
    assert!(imported > 30, "{imported} of 200 documents were read");
    assert!(granted > 0 && retries > 0, "{granted} permits and {retries} retries were granted");
}

/// G8: an empty document, and one of a process with other names, change nothing
#[actix_rt::test]
async fn unknown_names_are_ignored() {
    let (after, launches) = prepared(CONFIG);
    after.import(serde_json::from_str("{}").unwrap()).await;
    let other = Process::started(&CONFIG.replace("buckets.a", "buckets.z").replace("keys.ann", "keys.zoe"));
    after.import(other.export(0).await).await;
    start(launches);
    run_actors().await;
    assert_eq!((after.restarts(), after.acquire_all().await.len()), (0, 8));
    assert_eq!(after.admitted(client(1)).await, 20);
}

/// G8, P5: drains are in effect before an actor of the successor runs, by authority; those of names that it lacks are not
#[actix_rt::test]
async fn drains_cross_by_name() {
    let before = Process::started(CONFIG);
    let reason = Some("disk".to_owned());
    let order = DrainOrder { ordered_by: "ann".to_owned(), reason, expires: Some(Duration::from_secs(600)) };
    let first_two = DrainTarget::Endpoints(vec![EndpointId(0), EndpointId(1)]);
    before.pool().drain(first_two, order.clone()).await.unwrap();
    let without_first =
        CONFIG.replace("\"http://127.0.0.1:1\", \"http://127.0.0.1:2\"", "\"http://127.0.0.1:2\"");
    let document = serde_json::to_string(&before.export(0).await).unwrap();
    let (after, launches) = prepared(&without_first);
    after.import(serde_json::from_str(&document).unwrap()).await;
    let drains = after.pool().drains(clock::now());
    assert_eq!(drains.endpoints.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false]);
    assert!(drains.bucket.is_none());
    let drain = drains.endpoints[0].as_ref().unwrap();
    assert_eq!((drain.ordered_by.as_str(), drain.reason.as_deref()), ("ann", Some("disk")));
    start(launches);
    run_actors().await;
    let permits = after.acquire_all().await;
    assert!(!permits.is_empty() && permits.iter().all(|permit| permit.endpoint() == EndpointId(1)));
    before.pool().drain(DrainTarget::Bucket, order).await.unwrap();
    let (third, _) = prepared(CONFIG);
    third.import(before.export(0).await).await;
    assert!(third.pool().check_drain().is_err(), "the bucket drains");
}
