//! A call and its hedge. It uses the handles in the order of `src/upstream/attempt/hedge.rs`.
//!
//! The ledger counts grants to requests and to hedges: the hedges are at most their share of the requests, even after
//! crashes.

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

/// A completed hedge with its permit and ticket.
struct HedgeCall<'a> {
    permit: Tracked<Permit>,
    ticket: TrackedTicket<'a>,
    call: CallPlan,
}

/// The call that completed first.
enum FirstDone<'a> {
    Call(CallPlan),
    Hedge(Option<HedgeCall<'a>>),
}

impl<'a> Client {
    /// Kind of read of this request.
    pub(super) fn read_kind(&self) -> Option<ReadKind> {
        match self.spec.class {
            OperationClass::Read => Some(ReadKind::Object),
            OperationClass::List => Some(ReadKind::Listing),
            OperationClass::Write => None,
        }
    }

    /// Makes a call, and a hedge if the call takes long. Permit and ticket are those of the winner afterwards.
    pub(super) async fn call_hedged(
        &'a self,
        permit: &mut Tracked<Permit>,
        ticket: &mut TrackedTicket<'a>,
        circuit: CircuitRef,
    ) -> CallPlan {
        let endpoint = permit.endpoint();
        let mut first = pin!(self.call_upstream(endpoint));
        let mut hedge = pin!(self.hedge(endpoint, circuit));
        let first_done = poll_fn(|cx| match first.as_mut().poll(cx) {
            Poll::Ready(call) => Poll::Ready(FirstDone::Call(call)),
            Poll::Pending => hedge.as_mut().poll(cx).map(FirstDone::Hedge),
        });
        match first_done.await {
            FirstDone::Call(call) => call,
            FirstDone::Hedge(Some(won)) if won.call.outcome == Outcome::Success => {
                (*permit, *ticket) = (won.permit, won.ticket);
                won.call
            }
            FirstDone::Hedge(failed) => {
                if let Some(HedgeCall { permit, ticket, call }) = failed {
                    ticket.report(call.outcome);
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
        // A scenario seldom has enough successive reads for a known percentile.
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
        let ticket = TrackedTicket::new(self, circuit, ticket, (entered, entered));
        let call = self.call_upstream(permit.endpoint()).await;
        Some(HedgeCall { permit, ticket, call })
    }
}
