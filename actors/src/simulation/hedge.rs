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
use crate::simulation::circuit_observer::CircuitRef;
use crate::simulation::client::Client;
use crate::simulation::request::TrackedTicket;
use crate::simulation::tracked::Tracked;
use crate::simulation::upstream::CallPlan;
use crate::types::OperationClass;

/// A hedge that has its answer, and what it holds.
struct HedgeCall<'a> {
    permit: Tracked<Permit>,
    ticket: TrackedTicket<'a>,
    call: CallPlan,
}

/// Which of two calls is over first.
enum FirstDone<'a> {
    Call(CallPlan),
    Hedge(Option<HedgeCall<'a>>),
}

impl<'a> Client {
    /// What kind of read this is.
    pub(super) fn read_kind(&self) -> Option<ReadKind> {
        match self.spec.class {
            OperationClass::Read => Some(ReadKind::Object),
            OperationClass::List => Some(ReadKind::Listing),
            OperationClass::Write => None,
        }
    }

    /// A call, with a second one beside it if it takes long. What it was made with is the winner's in the end.
    pub(super) async fn call_hedged(
        &'a self,
        permit: &mut Tracked<Permit>,
        passed: &mut TrackedTicket<'a>,
        circuit: CircuitRef,
    ) -> CallPlan {
        let endpoint = permit.endpoint();
        let mut first = pin!(self.call_upstream(endpoint));
        let mut hedge = pin!(self.hedge(endpoint, circuit));
        let end = poll_fn(|cx| match first.as_mut().poll(cx) {
            Poll::Ready(course) => Poll::Ready(FirstDone::Call(course)),
            Poll::Pending => hedge.as_mut().poll(cx).map(FirstDone::Hedge),
        });
        match end.await {
            FirstDone::Call(course) => course,
            FirstDone::Hedge(Some(won)) if won.call.outcome == Outcome::Success => {
                (*permit, *passed) = (won.permit, won.ticket);
                won.call
            }
            FirstDone::Hedge(failed) => {
                if let Some(HedgeCall { permit, ticket: passed, call }) = failed {
                    passed.report(call.outcome);
                    drop(permit);
                }
                first.await
            }
        }
    }

    async fn hedge(&'a self, slow: usize, circuit: CircuitRef) -> Option<HedgeCall<'a>> {
        let Self { shared, spec, .. } = self;
        let pool = &shared.pools[spec.bucket.index()];
        let kind = self.read_kind().filter(|_| pool.has_hedging())?;
        // An episode seldom has enough reads in a row to know how long they take.
        let guess = Duration::from_millis(shared.rng.borrow_mut().between(0, 20));
        tokio::time::sleep(pool.hedge_delay(kind).unwrap_or(guess)).await;
        let asked = clock::now();
        let permit = pool.acquire_hedge(EndpointId(slow)).await.ok()?;
        let (endpoint, decided) = (permit.endpoint().0, self.decided_at(asked));
        let permits = shared.ledger.borrow_mut().record_hedge(spec.bucket, endpoint, decided, clock::now());
        let mut permit = Tracked::new(&permits, Some(permit), false);
        self.track_credential(&mut permit, decided);
        let ticket = shared.breaker(circuit).acquire_if_closed(circuit.id)?;
        let entered = shared.nanos(clock::now());
        let passed = TrackedTicket::new(self, circuit, ticket, (entered, entered));
        let call = self.call_upstream(permit.endpoint()).await;
        Some(HedgeCall { permit, ticket: passed, call })
    }
}
