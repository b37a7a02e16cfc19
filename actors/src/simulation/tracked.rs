//! What a simulated request holds, beside its count in the ledger.

use std::cell::Cell;
use std::rc::Rc;

use crate::clock;
use crate::pool::{Permit, PoolHandle};
use crate::simulation::ledger::CountGuard;

/// A thing with its count; the count falls first.
pub(super) struct Tracked<T> {
    _count: CountGuard,
    /// As whom, where it is a permit.
    pub(super) credential_count: Option<CountGuard>,
    pub(super) value: Option<T>,
    /// Whether it is lost instead of dropped, as a planted fault.
    pub(super) is_leaked: bool,
}

impl<T> Tracked<T> {
    pub(super) fn new(count: &Rc<Cell<usize>>, value: Option<T>, is_leaked: bool) -> Self {
        Self { _count: CountGuard::increment(count), credential_count: None, value, is_leaked }
    }
}

impl Tracked<Permit> {
    pub(super) fn endpoint(&self) -> usize {
        self.value.as_ref().map_or(0, |permit| permit.endpoint().0)
    }

    /// Gives it back after a call that ran its course.
    pub(super) fn release(mut self, pool: &PoolHandle) {
        if !self.is_leaked
            && let Some(permit) = self.value.take()
        {
            pool.release(permit, clock::now());
        }
    }
}

impl<T> Drop for Tracked<T> {
    fn drop(&mut self) {
        let thing = self.value.take();
        if self.is_leaked {
            std::mem::forget(thing);
        }
    }
}
