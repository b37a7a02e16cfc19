//! What a simulated request holds, with its count in the ledger.

use std::cell::Cell;
use std::rc::Rc;

use crate::clock;
use crate::pool::{Permit, PoolHandle};
use crate::simulation::ledger::CountGuard;

/// A value with its count; the count falls first.
pub(super) struct Tracked<T> {
    _count: CountGuard,
    /// For a permit: the count of its credential.
    pub(super) credential_count: Option<CountGuard>,
    pub(super) value: Option<T>,
    /// Whether the value is forgotten instead of dropped, as a planted fault.
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

    /// Releases the permit after a complete call.
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
        let value = self.value.take();
        if self.is_leaked {
            std::mem::forget(value);
        }
    }
}
