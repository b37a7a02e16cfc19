//! Seats and gates under every interleaving (S7, P4): the very source of `count.rs`, on loom's atomics.

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

/// S7, P2: two takers never both get the last place, and a place given back can be taken again
#[test]
fn a_bounded_count_is_never_exceeded() {
    loom::model(|| {
        let seats = Arc::new(BoundedCount::new(1));
        let inside = Arc::new(AtomicUsize::new(0));
        let takers: Vec<_> = (0..2)
            .map(|_| {
                let (seats, inside) = (Arc::clone(&seats), Arc::clone(&inside));
                thread::spawn(move || {
                    if seats.try_acquire() {
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        seats.release();
                    }
                })
            })
            .collect();
        for taker in takers {
            taker.join().unwrap();
        }
        assert_eq!(seats.in_use(), 0);
        assert!(seats.try_acquire());
    });
}

/// P4: a ticket dropped while the actor queues a waiter is never lost: the actor sees it, or gets a nudge
#[test]
fn no_wake_up_is_lost() {
    loom::model(|| {
        let gate = Arc::new(Gate::new());
        let nudges = Arc::new(AtomicUsize::new(0));
        gate.acquire();
        let dropper = {
            let (gate, nudges) = (Arc::clone(&gate), Arc::clone(&nudges));
            thread::spawn(move || {
                if gate.release() {
                    nudges.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        let seen_free = gate.publish_waiting(1) == 0;
        dropper.join().unwrap();
        assert!(seen_free || nudges.load(Ordering::SeqCst) == 1, "the waiter would wait for ever");
    });
}

/// C3, P4: what falls free beside the gate while the actor queues a waiter for it is never lost either
#[test]
fn no_wake_up_for_something_else_is_lost() {
    loom::model(|| {
        let (gate, nudges) = (Arc::new(Gate::new()), Arc::new(AtomicUsize::new(0)));
        let in_use = Arc::new(AtomicUsize::new(1));
        let dropper = {
            let (gate, nudges, in_use) = (Arc::clone(&gate), Arc::clone(&nudges), Arc::clone(&in_use));
            thread::spawn(move || {
                in_use.fetch_sub(1, Ordering::AcqRel);
                if gate.claim_wake_if_waiting() {
                    nudges.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        gate.publish_waiting(1);
        let seen_free = in_use.load(Ordering::Acquire) == 0;
        dropper.join().unwrap();
        assert!(seen_free || nudges.load(Ordering::SeqCst) == 1, "the waiter would wait for ever");
    });
}

/// P4: nudges coalesce, but one sent after the actor began to count is not swallowed
#[test]
fn a_nudge_during_the_count_is_sent_again() {
    loom::model(|| {
        let gate = Arc::new(Gate::new());
        let nudges = Arc::new(AtomicUsize::new(0));
        gate.acquire();
        gate.acquire();
        gate.publish_waiting(2);
        let droppers: Vec<_> = (0..2)
            .map(|_| {
                let (gate, nudges) = (Arc::clone(&gate), Arc::clone(&nudges));
                thread::spawn(move || {
                    if gate.release() {
                        nudges.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        // The actor handles a nudge, whether or not one has come: what it counts, and what is nudged after it.
        gate.wake_received();
        let counted = 2 - gate.live();
        for dropper in droppers {
            dropper.join().unwrap();
        }
        assert!(counted == 2 || nudges.load(Ordering::SeqCst) > 0, "{counted} counted and no nudge");
    });
}
