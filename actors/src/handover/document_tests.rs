//! Documents that a process cannot have written, or one of another version (G8, S5).

use std::time::Duration;

use super::tests::{CONFIG, Process, client, prepared, run_actors, start};
use super::*;
use crate::pool::{CredentialError, CredentialId, EndpointId, FailureKind};
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
    run_actors().await;
    let document = serde_json::to_value(before.export(3).await).unwrap();
    let mut imported = 0;
    for seed in 0..200 {
        let (mut rng, mut document) = (SeededRng::new(seed), document.clone());
        let rate = rng.choose([20, 100, 300]);
        corrupt(&mut document, rate, &mut rng);
        let Ok(state) = serde_json::from_value::<ActorsState>(document) else { continue };
        imported += 1;
        let (after, launches) = prepared(CONFIG);
        after.import(state).await;
        start(launches);
        after.admitted(client(1)).await;
        after.admitted(client(200)).await;
        let permits = after.acquire_all().await;
        for permit in &permits {
            let now = clock::now();
            after.pool().report_failure(permit.endpoint(), FailureKind::Timeout, now, now);
            after.pool().record_response(permit.endpoint(), Duration::from_millis(5), now);
        }
        drop(after.pool().acquire_retry().await);
        drop(permits);
        after.actors.reserve_for_predecessor(&PredecessorUse::default());
        run_actors().await;
        assert_eq!(after.restarts(), 0, "seed {seed}");
        assert!(after.actors.monitor.acquire_slot().is_ok() && after.pool().limit() == 8);
    }
    assert!(imported > 30, "{imported} of 200 documents were read");
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
