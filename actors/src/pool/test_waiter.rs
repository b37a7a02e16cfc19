//! The waiter of the gate's tests; it stores the permit or the rejection that it got.

use std::cell::RefCell;
use std::rc::Rc;

use crate::pool::credentials::credential::CredentialTicket;
use crate::pool::decision::WaitRejection;
use crate::pool::gate::ticket::Permit;
use crate::pool::state::Waiter;

/// A waiter with a shared slot for its permit.
#[derive(Clone, Debug, Default)]
pub(crate) struct TestWaiter(Rc<RefCell<TestWaiterState>>);

#[derive(Debug, Default)]
struct TestWaiterState {
    permit: Option<Permit>,
    is_cancelled: bool,
    rejection: Option<WaitRejection>,
}

impl TestWaiter {
    pub(crate) fn cancel(&self) {
        let permit = {
            let mut slot = self.0.borrow_mut();
            slot.is_cancelled = true;
            slot.permit.take()
        };
        drop(permit);
    }

    pub(crate) fn has_permit(&self) -> bool {
        self.0.borrow().permit.is_some()
    }

    pub(crate) fn rejection(&self) -> Option<WaitRejection> {
        self.0.borrow().rejection
    }

    /// The credential of its permit.
    pub(crate) fn credential(&self) -> Option<usize> {
        self.0.borrow().permit.as_ref().and_then(Permit::credential).map(|credential| credential.0)
    }

    pub(crate) fn set_credential(&self, ticket: CredentialTicket) {
        self.0.borrow_mut().permit.as_mut().unwrap().set_credential(ticket);
    }
}

impl Waiter for TestWaiter {
    fn is_cancelled(&self) -> bool {
        self.0.borrow().is_cancelled
    }

    fn try_grant(self, permit: Permit) -> Result<(), Permit> {
        let mut slot = self.0.borrow_mut();
        if slot.is_cancelled {
            return Err(permit);
        }
        slot.permit = Some(permit);
        Ok(())
    }

    fn reject(self, rejection: WaitRejection) {
        self.0.borrow_mut().rejection = Some(rejection);
    }
}
