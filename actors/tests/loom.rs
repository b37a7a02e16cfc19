//! Mailbox slots and gates under every interleaving (S7, P4): the source of `src/count.rs` on loom's atomics.

mod sync {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
}

#[path = "../src/count.rs"]
#[allow(dead_code, missing_docs, unreachable_pub)]
mod count;

use count::{BoundedCount, Gate};
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
        let gate = Arc::new(Gate::new());
        let wakes = Arc::new(AtomicUsize::new(0));
        gate.acquire();
        let dropper = {
            let (gate, wakes) = (Arc::clone(&gate), Arc::clone(&wakes));
            thread::spawn(move || {
                if gate.release() {
                    wakes.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        let seen_free = gate.publish_waiting(1) == 0;
        dropper.join().unwrap();
        assert!(seen_free || wakes.load(Ordering::SeqCst) == 1, "the waiter would never be woken");
    });
}

/// C3, P4: a release of something other than a permit while the actor queues a waiter is never lost either
#[test]
fn no_wake_up_for_something_else_is_lost() {
    loom::model(|| {
        let (gate, wakes) = (Arc::new(Gate::new()), Arc::new(AtomicUsize::new(0)));
        let in_use = Arc::new(AtomicUsize::new(1));
        let dropper = {
            let (gate, wakes, in_use) = (Arc::clone(&gate), Arc::clone(&wakes), Arc::clone(&in_use));
            thread::spawn(move || {
                in_use.fetch_sub(1, Ordering::AcqRel);
                if gate.claim_wake_if_waiting() {
                    wakes.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        gate.publish_waiting(1);
        let seen_free = in_use.load(Ordering::Acquire) == 0;
        dropper.join().unwrap();
        assert!(seen_free || wakes.load(Ordering::SeqCst) == 1, "the waiter would never be woken");
    });
}

/// P4: wake-ups are coalesced, but a release after the actor began to count sends another one
#[test]
fn a_release_during_the_count_sends_another_wake_up() {
    loom::model(|| {
        let gate = Arc::new(Gate::new());
        let wakes = Arc::new(AtomicUsize::new(0));
        gate.acquire();
        gate.acquire();
        gate.publish_waiting(2);
        let droppers: Vec<_> = (0..2)
            .map(|_| {
                let (gate, wakes) = (Arc::clone(&gate), Arc::clone(&wakes));
                thread::spawn(move || {
                    if gate.release() {
                        wakes.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        // The actor handles a wake-up, whether or not one was sent: it counts, and later releases send another.
        gate.wake_received();
        let counted = 2 - gate.live();
        for dropper in droppers {
            dropper.join().unwrap();
        }
        assert!(counted == 2 || wakes.load(Ordering::SeqCst) > 0, "{counted} counted and no wake-up");
    });
}
