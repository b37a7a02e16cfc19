//! What a simulated request holds, beside its count in the ledger.

use std::cell::Cell;
use std::rc::Rc;

use crate::clock;
use crate::pool::{Permit, PoolHandle};
use crate::simulation::ledger::Counted;

/// A thing with its count; the count falls first.
pub(super) struct Held<T> {
    _count: Counted,
    /// As whom, where it is a permit.
    pub(super) share: Option<Counted>,
    pub(super) thing: Option<T>,
    /// Whether it is lost instead of dropped, as a planted fault.
    pub(super) forgets: bool,
}

impl<T> Held<T> {
    pub(super) fn new(count: &Rc<Cell<usize>>, thing: Option<T>, forgets: bool) -> Self {
        Self { _count: Counted::in_(count), share: None, thing, forgets }
    }
}

impl Held<Permit> {
    pub(super) fn endpoint(&self) -> usize {
        self.thing.as_ref().map_or(0, |permit| permit.endpoint().0)
    }

    /// Gives it back after a call that ran its course.
    pub(super) fn finish(mut self, pool: &PoolHandle) {
        if !self.forgets
            && let Some(permit) = self.thing.take()
        {
            pool.finish(permit, clock::now());
        }
    }
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        let thing = self.thing.take();
        if self.forgets {
            std::mem::forget(thing);
        }
    }
}
