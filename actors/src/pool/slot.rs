//! Who waits in the tests of the gate: a slot that keeps what it was handed.

use std::cell::RefCell;
use std::rc::Rc;

use crate::pool::credential::CredentialTicket;
use crate::pool::state::{Dismissal, Waiter};
use crate::pool::ticket::Permit;

/// A waiter whose permit, if it got one, lies in its slot.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slot(Rc<RefCell<SlotState>>);

#[derive(Debug, Default)]
struct SlotState {
    permit: Option<Permit>,
    left: bool,
    dismissed: Option<Dismissal>,
}

impl Slot {
    pub(crate) fn leave(&self) {
        let permit = {
            let mut slot = self.0.borrow_mut();
            slot.left = true;
            slot.permit.take()
        };
        drop(permit);
    }

    pub(crate) fn has(&self) -> bool {
        self.0.borrow().permit.is_some()
    }

    pub(crate) fn dismissed(&self) -> Option<Dismissal> {
        self.0.borrow().dismissed
    }

    /// As whom it goes on.
    pub(crate) fn credential(&self) -> Option<usize> {
        self.0.borrow().permit.as_ref().and_then(Permit::credential).map(|credential| credential.0)
    }

    pub(crate) fn go_on_as(&self, ticket: CredentialTicket) {
        self.0.borrow_mut().permit.as_mut().unwrap().go_on_as(ticket);
    }
}

impl Waiter for Slot {
    fn gone(&self) -> bool {
        self.0.borrow().left
    }

    fn hand(self, permit: Permit) -> Result<(), Permit> {
        let mut slot = self.0.borrow_mut();
        if slot.left {
            return Err(permit);
        }
        slot.permit = Some(permit);
        Ok(())
    }

    fn dismiss(self, dismissal: Dismissal) {
        self.0.borrow_mut().dismissed = Some(dismissal);
    }
}
