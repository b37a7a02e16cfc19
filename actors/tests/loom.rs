//! Mailbox slots and gates under every interleaving (S7, P4): the source of `src/count.rs` on loom's atomics.

mod sync {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
}

#[path = "../src/count.rs"]
#[allow(dead_code, missing_docs, unreachable_pub)]
mod count;

use count::{BoundedCount, Gate, GateQueue};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

/// S7, P2: two threads never both acquire the last slot, and a released slot can be acquired again
#[test]
fn a_bounded_count_is_never_exceeded() {
    loom::model(|| {
        let slots = Arc::new(BoundedCount::new(1));
        let inside = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (slots, inside) = (Arc::clone(&slots), Arc::clone(&inside));
                thread::spawn(move || {
                    if slots.try_acquire() {
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        slots.release();
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(slots.in_use(), 0);
        assert!(slots.try_acquire());
    });
}

/// P4: a ticket dropped while the actor queues a waiter is never lost: the actor sees the release, or a wake-up is
/// sent
#[test]
fn no_wake_up_is_lost() {
    loom::model(|| {
        let (gate, queue) = (Arc::new(Gate::new()), Arc::new(GateQueue::new()));
        let wakes = Arc::new(AtomicUsize::new(0));
        assert!(gate.try_acquire_below(9));
        let dropper = {
            let (gate, queue, wakes) = (Arc::clone(&gate), Arc::clone(&queue), Arc::clone(&wakes));
            thread::spawn(move || {
                if gate.release() && queue.claim_wake_if_waiting() {
                    wakes.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        let seen_free = gate.publish_waiting(&queue, 1) == 0;
        dropper.join().unwrap();
        assert!(seen_free || wakes.load(Ordering::SeqCst) == 1, "the waiter would never be woken");
    });
}

/// C3, P4: a release of something other than a permit while the actor queues a waiter is never lost either
#[test]
fn no_wake_up_for_something_else_is_lost() {
    loom::model(|| {
        let (gate, queue) = (Arc::new(Gate::new()), Arc::new(GateQueue::new()));
        let wakes = Arc::new(AtomicUsize::new(0));
        let in_use = Arc::new(AtomicUsize::new(1));
        let dropper = {
            let (gate, queue, wakes) = (Arc::clone(&gate), Arc::clone(&queue), Arc::clone(&wakes));
            let in_use = Arc::clone(&in_use);
            thread::spawn(move || {
                in_use.fetch_sub(1, Ordering::AcqRel);
                if gate.has_waiters_after_free() && queue.claim_wake_if_waiting() {
                    wakes.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        gate.publish_waiting(&queue, 1);
        let seen_free = in_use.load(Ordering::Acquire) == 0;
        dropper.join().unwrap();
        assert!(seen_free || wakes.load(Ordering::SeqCst) == 1, "the waiter would never be woken");
    });
}

/// P4: wake-ups are coalesced, but a release after the actor began to count sends another one
#[test]
fn a_release_during_the_count_sends_another_wake_up() {
    loom::model(|| {
        let (gate, queue) = (Arc::new(Gate::new()), Arc::new(GateQueue::new()));
        let wakes = Arc::new(AtomicUsize::new(0));
        assert!(gate.try_acquire_below(9));
        assert!(gate.try_acquire_below(9));
        gate.publish_waiting(&queue, 2);
        let droppers: Vec<_> = (0..2)
            .map(|_| {
                let (gate, queue, wakes) = (Arc::clone(&gate), Arc::clone(&queue), Arc::clone(&wakes));
                thread::spawn(move || {
                    if gate.release() && queue.claim_wake_if_waiting() {
                        wakes.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        // The actor handles a wake-up, whether or not one was sent: it counts, and later releases send another.
        queue.wake_received();
        let counted = 2 - gate.live();
        for dropper in droppers {
            dropper.join().unwrap();
        }
        assert!(counted == 2 || wakes.load(Ordering::SeqCst) > 0, "{counted} counted and no wake-up");
    });
}

/// P3, G3: two actors that share a gate never exceed its limit together, and a lower limit holds for both
#[test]
fn two_actors_never_exceed_the_limit() {
    loom::model(|| {
        let gate = Arc::new(Gate::new());
        gate.set_limit(0, 2);
        assert!(gate.try_acquire_below(9));
        let other = {
            let gate = Arc::clone(&gate);
            thread::spawn(move || gate.try_acquire_below(9))
        };
        let own = gate.try_acquire_below(9);
        let others = other.join().unwrap();
        assert!(own != others, "one of two got the last permit");
        assert_eq!(gate.live(), 2);
        assert_eq!(gate.set_limit(1, 1), Some(2));
        assert!(!gate.release() && !gate.try_acquire_below(9), "one permit is the lower limit");
    });
}

/// P3, G3: the limit of a later generation stays, whichever actor sets its limit last
#[test]
fn a_later_generation_sets_the_limit() {
    loom::model(|| {
        let gate = Arc::new(Gate::new());
        gate.set_limit(0, 9);
        let old = {
            let gate = Arc::clone(&gate);
            thread::spawn(move || gate.set_limit(0, 7))
        };
        gate.set_limit(1, 3);
        old.join().unwrap();
        assert_eq!((gate.limit(), gate.generation()), (3, 1));
    });
}

/// P4, G3: of two actors that queue a waiter while a permit is released, each sees the release or is woken
#[test]
fn a_release_wakes_the_waiters_of_both_actors() {
    loom::model(|| {
        let gate = Arc::new(Gate::new());
        let queues = [Arc::new(GateQueue::new()), Arc::new(GateQueue::new())];
        assert!(gate.try_acquire_below(9));
        let dropper = {
            let (gate, queues) = (Arc::clone(&gate), queues.clone());
            thread::spawn(move || gate.release().then(|| queues.map(|queue| queue.claim_wake_if_waiting())))
        };
        let other = {
            let (gate, queue) = (Arc::clone(&gate), Arc::clone(&queues[1]));
            thread::spawn(move || gate.publish_waiting(&queue, 1) == 0)
        };
        let sees = [gate.publish_waiting(&queues[0], 1) == 0, other.join().unwrap()];
        let woken = dropper.join().unwrap().unwrap_or_default();
        for (sees, woken) in sees.into_iter().zip(woken) {
            assert!(sees || woken, "the waiter would never be woken");
        }
        assert_eq!(gate.waiting(), 2);
    });
}
