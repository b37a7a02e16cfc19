//! A call and a hedge beside it, as `src/upstream/hedge.rs` makes them: the same handles in the same order.
//!
//! The ledger counts what is granted to requests and to hedges: these are at most their share of those, whatever crashes.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::breaker::Outcome;
use crate::clock;
use crate::pool::{EndpointId, Permit, ReadKind};
use crate::simulation::circuits::Circuit;
use crate::simulation::client::Client;
use crate::simulation::held::Held;
use crate::simulation::passing::Passed;
use crate::simulation::upstream::Course;
use crate::types::OperationClass;

/// A hedge that has its answer, and what it holds.
struct Hedged<'a> {
    permit: Held<Permit>,
    passed: Passed<'a>,
    course: Course,
}

/// Which of two calls is over first.
enum End<'a> {
    First(Course),
    Second(Option<Hedged<'a>>),
}

impl<'a> Client {
    /// What kind of read this is.
    pub(super) fn read_kind(&self) -> Option<ReadKind> {
        match self.script.class {
            OperationClass::Read => Some(ReadKind::Object),
            OperationClass::List => Some(ReadKind::Listing),
            OperationClass::Write => None,
        }
    }

    /// A call, with a second one beside it if it takes long. What it was made with is the winner's in the end.
    pub(super) async fn call_hedged(
        &'a self,
        permit: &mut Held<Permit>,
        passed: &mut Passed<'a>,
        circuit: Circuit,
    ) -> Course {
        let endpoint = permit.endpoint();
        let mut first = pin!(self.call_upstream(endpoint));
        let mut hedge = pin!(self.hedge(endpoint, circuit));
        let end = poll_fn(|cx| match first.as_mut().poll(cx) {
            Poll::Ready(course) => Poll::Ready(End::First(course)),
            Poll::Pending => hedge.as_mut().poll(cx).map(End::Second),
        });
        match end.await {
            End::First(course) => course,
            End::Second(Some(won)) if won.course.outcome == Outcome::Success => {
                (*permit, *passed) = (won.permit, won.passed);
                won.course
            }
            End::Second(failed) => {
                if let Some(Hedged { permit, passed, course }) = failed {
                    passed.report(course.outcome);
                    drop(permit);
                }
                first.await
            }
        }
    }

    async fn hedge(&'a self, slow: usize, circuit: Circuit) -> Option<Hedged<'a>> {
        let Self { world, script, .. } = self;
        let pool = &world.pools[script.bucket.index()];
        let kind = self.read_kind().filter(|_| pool.hedges())?;
        // An episode seldom has enough reads in a row to know how long they take.
        let guess = Duration::from_millis(world.dice.borrow_mut().between(0, 20));
        tokio::time::sleep(pool.hedge_delay(kind).unwrap_or(guess)).await;
        let asked = clock::now();
        let permit = pool.hedge(EndpointId(slow)).await.ok()?;
        let (endpoint, decided) = (permit.endpoint().0, self.decided(asked));
        let permits = world.ledger.borrow_mut().hedged(script.bucket, endpoint, decided, clock::now());
        let mut permit = Held::new(&permits, Some(permit), false);
        self.goes_on_as(&mut permit, decided);
        let ticket = world.breaker(circuit).permit_if_closed(circuit.id)?;
        let entered = world.nanos(clock::now());
        let passed = Passed::new(self, circuit, ticket, (entered, entered));
        let course = self.call_upstream(permit.endpoint()).await;
        Some(Hedged { permit, passed, course })
    }
}
