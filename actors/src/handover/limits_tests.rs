//! Retry budgets, lockouts and rate limits in upgrades that fail, and in those that follow (G8, L2, L8, R5).

use crate::clock;
use crate::handover::tests::{CONFIG, Process, client, prepared, run_actors, start};
use crate::types::{IpKey, OperationClass};

impl Process {
    /// The retries that bucket `a` allows, each completed at once.
    async fn retries(&self) -> usize {
        let mut count = 0;
        while self.pool().acquire_retry().await.is_some() {
            count += 1;
        }
        count
    }

    async fn fail_authentication(&self, client: IpKey, times: usize) {
        for _ in 0..times {
            let _ = self.actors.limiter.charge_auth_failure(client, None).await;
        }
    }

    fn is_locked_out(&self, client: IpKey) -> bool {
        self.actors.limiter.peek_auth_lockout(client, clock::now()).is_some()
    }
}

/// G8, R5: the retries that are left are divided: 50 in ten seconds, and 10 in flight
#[actix_rt::test]
async fn retries_are_not_doubled() {
    let before = Process::started(CONFIG);
    for _ in 0..10 {
        drop(before.pool().acquire_retry().await.unwrap());
    }
    let in_flight =
        [before.pool().acquire_retry().await.unwrap(), before.pool().acquire_retry().await.unwrap()];
    let state = before.export(6).await;
    let document: serde_json::Value = serde_json::to_value(&state.predecessor).unwrap();
    assert_eq!(document["retries"]["a"], serde_json::json!({"may_begin": 6, "in_flight": 6}));
    let (after, launches) = prepared(CONFIG);
    after.import(state).await;
    start(launches);
    run_actors().await;
    assert_eq!((before.retries().await, after.retries().await), (6, 50 - 12 - 6));
    let held = || after.actors.reserve_for_predecessor(&before.actors.remaining_use(0));
    held();
    assert_eq!(after.retries().await, 0, "those that were begun count as spent");
    drop(in_flight);
    before.actors.resume_limits();
    run_actors().await;
    assert_eq!(before.retries().await, 50 - 12 - 6, "a failed upgrade gives the rest back");
}

/// G8, R5: if the pool's actor does not answer, no process has its retries; a late export gives none, and a failed upgrade all
#[actix_rt::test]
async fn retries_of_a_silent_actor_are_kept_by_no_process() {
    let (before, launches) = prepared(CONFIG);
    let state = before.export(10).await;
    start(launches);
    let (after, launches) = prepared(CONFIG);
    after.import(state).await;
    start(launches);
    run_actors().await;
    assert_eq!((before.retries().await, after.retries().await), (0, 0));
    before.actors.resume_limits();
    run_actors().await;
    assert_eq!(before.retries().await, 50);
}

/// G8, L8: a lockout stays at the predecessor and after a failed upgrade. One for want of the successor's part ends with that
#[actix_rt::test]
async fn lockouts_stay_after_a_failed_upgrade() {
    let (before, [locked, other]) = (Process::started(CONFIG), [7, 8].map(client));
    before.fail_authentication(locked, 4).await;
    assert!(before.is_locked_out(locked));
    before.export(5).await;
    assert!(before.is_locked_out(locked), "after the hand-over");
    before.fail_authentication(other, 2).await;
    assert!(before.is_locked_out(other), "half of four are left");
    before.actors.resume_limits();
    run_actors().await;
    assert_eq!((before.is_locked_out(locked), before.is_locked_out(other)), (true, false));
    before.fail_authentication(other, 1).await;
    assert!(!before.is_locked_out(other), "three of four");
    let after = before.successor(0, CONFIG).await;
    assert!(after.is_locked_out(locked));
    after.fail_authentication(other, 1).await;
    assert!(after.is_locked_out(other), "what was used during the failed upgrade stays used");
}

/// G8, L2: an upgrade after a failed one divides what is left then
#[actix_rt::test]
async fn an_upgrade_after_a_failed_one_keeps_the_limits() {
    let before = Process::started(CONFIG);
    let admit = async |times: usize| {
        for _ in 0..times {
            let (bucket, now) = (before.bucket("b"), clock::now());
            before.actors.limiter.admit(bucket, OperationClass::Read, client(1), now).await.unwrap();
        }
    };
    admit(6).await;
    before.export(5).await;
    admit(3).await;
    before.actors.resume_limits();
    run_actors().await;
    admit(3).await;
    let after = before.successor(2, CONFIG).await;
    assert_eq!((before.admitted(client(1)).await, after.admitted(client(1)).await), (2, 20 - 12 - 2));
    assert_eq!(before.restarts() + after.restarts(), 0);
}
