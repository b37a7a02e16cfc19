//! Where requests wait for one circuit, first come first served.
//!
//! The room only keeps the order. How many are in it is told by their places (`hold.rs`), which those who leave give up
//! by themselves; what they leave behind here is passed over when its turn comes, and swept out before it piles up.

use std::collections::VecDeque;

/// Somebody who waits.
pub(crate) trait Waiter {
    /// Whether it has left.
    fn is_cancelled(&self) -> bool;
}

/// Those who wait.
#[derive(Debug)]
pub(crate) struct CircuitQueue<W> {
    waiting: VecDeque<W>,
    capacity: usize,
}

impl<W: Waiter> CircuitQueue<W> {
    /// A room for so many at a time.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { waiting: VecDeque::new(), capacity }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Whether nobody waits any more.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.iter().all(Waiter::is_cancelled)
    }

    /// Takes somebody in, behind all others.
    pub(crate) fn push(&mut self, waiter: W) {
        if self.waiting.len() >= self.capacity {
            self.waiting.retain(|waiter| !waiter.is_cancelled());
        }
        self.waiting.push_back(waiter);
    }

    /// Whose turn it is.
    pub(crate) fn pop(&mut self) -> Option<W> {
        while let Some(waiter) = self.waiting.pop_front() {
            if !waiter.is_cancelled() {
                return Some(waiter);
            }
        }
        None
    }

    /// Sends everybody away.
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

    /// B2: those who wait are let through in the order in which they came, and those who left are passed over
    #[test]
    fn waiters_leave_in_order() {
        let mut room = CircuitQueue::new(4);
        let leaves: Vec<_> = (0..4).map(|_| Rc::new(Cell::new(false))).collect();
        for (number, leaves) in (0..).zip(&leaves) {
            room.push(TestWaiter(number, Rc::clone(leaves)));
        }
        leaves[0].set(true);
        leaves[2].set(true);
        assert!(!room.is_empty());
        let order: Vec<u32> = std::iter::from_fn(|| room.pop()).map(|somebody| somebody.0).collect();
        assert_eq!(order, [1, 3]);
    }

    /// B2: those who left do not pile up
    #[test]
    fn cancelled_waiters_are_removed() {
        let mut room = CircuitQueue::new(3);
        for number in 0..1000 {
            let leaves = Rc::new(Cell::new(false));
            room.push(TestWaiter(number, Rc::clone(&leaves)));
            leaves.set(true);
            assert!(room.waiting.len() <= 3);
        }
        assert!(room.is_empty());
        room.push(TestWaiter(1000, Rc::default()));
        room.clear();
        assert!(room.pop().is_none());
    }
}
