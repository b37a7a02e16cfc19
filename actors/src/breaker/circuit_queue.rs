//! The queue of requests that wait for one circuit, first come first served.
//!
//! The queue owns only the order. The number of waiters is counted by their slots (`circuit_wait.rs`), which a
//! cancelled waiter releases itself. The entry it cancelled here is skipped by `pop`, and removed by `push` when the
//! queue is full.

use std::collections::VecDeque;

/// A queued request.
pub(crate) trait Waiter {
    /// Whether the request no longer waits.
    fn is_cancelled(&self) -> bool;
}

/// The queue of one circuit.
#[derive(Debug)]
pub(crate) struct CircuitQueue<W> {
    waiting: VecDeque<W>,
    capacity: usize,
}

impl<W: Waiter> CircuitQueue<W> {
    /// An empty queue for this many waiters.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { waiting: VecDeque::new(), capacity }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Sets the number of waiters for which there is room. Those that wait already stay.
    pub(crate) fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
    }

    /// Whether no request waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.iter().all(Waiter::is_cancelled)
    }

    /// Appends a waiter.
    pub(crate) fn push(&mut self, waiter: W) {
        if self.waiting.len() >= self.capacity {
            self.waiting.retain(|waiter| !waiter.is_cancelled());
        }
        self.waiting.push_back(waiter);
    }

    /// Removes the first waiter that is not cancelled.
    pub(crate) fn pop(&mut self) -> Option<W> {
        while let Some(waiter) = self.waiting.pop_front() {
            if !waiter.is_cancelled() {
                return Some(waiter);
            }
        }
        None
    }

    /// Removes all waiters.
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    struct TestWaiter(u32, Rc<Cell<bool>>);

    impl Waiter for TestWaiter {
        fn is_cancelled(&self) -> bool {
            self.1.get()
        }
    }

    /// B2: waiters are popped in the order in which they came, and cancelled ones are skipped
    #[test]
    fn waiters_leave_in_order() {
        let mut queue = CircuitQueue::new(4);
        let cancelled: Vec<_> = (0..4).map(|_| Rc::new(Cell::new(false))).collect();
        for (number, flag) in (0..).zip(&cancelled) {
            queue.push(TestWaiter(number, Rc::clone(flag)));
        }
        cancelled[0].set(true);
        cancelled[2].set(true);
        assert!(!queue.is_empty());
        let order: Vec<u32> = std::iter::from_fn(|| queue.pop()).map(|waiter| waiter.0).collect();
        assert_eq!(order, [1, 3]);
    }

    /// B2: cancelled waiters do not accumulate
    #[test]
    fn cancelled_waiters_are_removed() {
        let mut queue = CircuitQueue::new(3);
        for number in 0..1000 {
            let cancelled = Rc::new(Cell::new(false));
            queue.push(TestWaiter(number, Rc::clone(&cancelled)));
            cancelled.set(true);
            assert!(queue.waiting.len() <= 3);
        }
        assert!(queue.is_empty());
        queue.push(TestWaiter(1000, Rc::default()));
        queue.clear();
        assert!(queue.pop().is_none());
    }
}
