//! Where requests wait for one circuit, first come first served.
//!
//! The room only keeps the order. How many are in it is told by their places (`hold.rs`), which those who leave give up
//! by themselves; what they leave behind here is passed over when its turn comes, and swept out before it piles up.

use std::collections::VecDeque;

/// Somebody who waits.
pub(crate) trait Waiter {
    /// Whether it has left.
    fn gone(&self) -> bool;
}

/// Those who wait.
#[derive(Debug)]
pub(crate) struct Room<W> {
    waiting: VecDeque<W>,
    places: usize,
}

impl<W: Waiter> Room<W> {
    /// A room for so many at a time.
    pub(crate) fn new(places: usize) -> Self {
        Self { waiting: VecDeque::new(), places }
    }

    pub(crate) fn places(&self) -> usize {
        self.places
    }

    /// Whether nobody waits any more.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.iter().all(Waiter::gone)
    }

    /// Takes somebody in, behind all others.
    pub(crate) fn enter(&mut self, waiter: W) {
        if self.waiting.len() >= self.places {
            self.waiting.retain(|waiter| !waiter.gone());
        }
        self.waiting.push_back(waiter);
    }

    /// Whose turn it is.
    pub(crate) fn next(&mut self) -> Option<W> {
        while let Some(waiter) = self.waiting.pop_front() {
            if !waiter.gone() {
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

    struct Somebody(u32, Rc<Cell<bool>>);

    impl Waiter for Somebody {
        fn gone(&self) -> bool {
            self.1.get()
        }
    }

    /// B2: those who wait are let through in the order in which they came, and those who left are passed over
    #[test]
    fn the_first_to_come_is_the_first_to_go() {
        let mut room = Room::new(4);
        let leaves: Vec<_> = (0..4).map(|_| Rc::new(Cell::new(false))).collect();
        for (number, leaves) in (0..).zip(&leaves) {
            room.enter(Somebody(number, Rc::clone(leaves)));
        }
        leaves[0].set(true);
        leaves[2].set(true);
        assert!(!room.is_empty());
        let order: Vec<u32> = std::iter::from_fn(|| room.next()).map(|somebody| somebody.0).collect();
        assert_eq!(order, [1, 3]);
    }

    /// B2: those who left do not pile up
    #[test]
    fn who_left_is_swept_out() {
        let mut room = Room::new(3);
        for number in 0..1000 {
            let leaves = Rc::new(Cell::new(false));
            room.enter(Somebody(number, Rc::clone(&leaves)));
            leaves.set(true);
            assert!(room.waiting.len() <= 3);
        }
        assert!(room.is_empty());
        room.enter(Somebody(1000, Rc::default()));
        room.clear();
        assert!(room.next().is_none());
    }
}
