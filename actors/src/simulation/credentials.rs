//! What an upstream may have against a credential, drawn where a call ended without saying anything of the upstream.

use std::cell::RefCell;
use std::time::Duration;

use crate::breaker::Outcome;
use crate::clock;
use crate::pool::{Permit, PoolHandle, Setback};
use crate::simulation::dice::Dice;
use crate::simulation::upstream::Course;

/// Tells the pool what an answer says of the permit's credential; returns whether that is something against it.
pub(super) fn judge(pool: &PoolHandle, permit: &Permit, course: &Course, dice: &RefCell<Dice>) -> bool {
    let Some(credential) = permit.credential() else { return false };
    match course.outcome {
        Outcome::Success => {
            pool.accepted(credential, clock::now());
            false
        }
        Outcome::Failure { .. } => false,
        Outcome::Neutral => {
            let mut dice = dice.borrow_mut();
            let asked = dice.one_of([
                None,
                Some(Duration::ZERO),
                Some(Duration::from_millis(300)),
                Some(Duration::MAX),
            ]);
            pool.set_back(
                credential,
                dice.one_of([Setback::Throttled(asked), Setback::Refused, Setback::Doubted]),
            );
            true
        }
    }
}
