//! Credentials: what an upstream may have against one, drawn where a call ended without saying anything of the upstream; and a watch
//! from outside over who goes on as whom, and which were left alone then.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::breaker::Outcome;
use crate::clock;
use crate::pool::{
    CredentialCheck, CredentialId, CredentialStanding, CredentialView, Evidence, Permit, PoolHandle,
    PoolRejection, Setback,
};
use crate::simulation::client::Client;
use crate::simulation::episode::{Episode, Running};
use crate::simulation::held::Held;
use crate::simulation::ledger::Counted;
use crate::simulation::signal::Signal;
use crate::simulation::upstream::Course;
use crate::types::{BucketId, IpKey};

/// Standings that are remembered.
const REMEMBERED: usize = 256;

/// One bucket's credentials under watch.
#[derive(Debug, Default)]
pub(super) struct Wallet {
    /// How many requests go on as each.
    held: Vec<Rc<Cell<usize>>>,
    seen: VecDeque<(Instant, Vec<CredentialStanding>)>,
}

/// Until when it is left alone.
fn out_until(standing: CredentialStanding) -> Option<Instant> {
    match standing {
        CredentialStanding::Cooling(until) | CredentialStanding::Refused(until) => Some(until),
        CredentialStanding::InUse | CredentialStanding::OnTrial => None,
    }
}

/// Whether a request could go on as this one.
pub(super) fn has_room(view: &CredentialView) -> bool {
    match view.standing {
        CredentialStanding::InUse => view.in_flight < view.concurrent_max,
        CredentialStanding::OnTrial => view.in_flight == 0,
        CredentialStanding::Cooling(_) | CredentialStanding::Refused(_) => false,
    }
}

impl Wallet {
    pub(super) fn new(credentials: usize) -> Self {
        Self { held: (0..credentials).map(|_| Rc::default()).collect(), seen: VecDeque::new() }
    }

    /// Looks at what is published, after whatever may have changed it.
    pub(super) fn look(&mut self, bucket: usize, pool: &PoolHandle, now: Instant) -> Result<(), String> {
        if self.held.is_empty() {
            return Ok(());
        }
        let views = pool.view(now).credentials;
        let standings: Vec<CredentialStanding> = views.iter().map(|view| view.standing).collect();
        let is_refused = |standing: &CredentialStanding| matches!(standing, CredentialStanding::Refused(_));
        if bucket == LONE_DOUBTER_IN.index() && standings.iter().any(is_refused) {
            return Err("a single client had a credential withdrawn".to_owned());
        }
        if let Some((_, before)) = self.seen.back() {
            for (at, (before, is)) in before.iter().zip(&standings).enumerate() {
                let promised = out_until(*before).filter(|until| now < *until);
                if promised.is_some_and(|until| out_until(*is).is_none_or(|now_until| now_until < until)) {
                    return Err(format!("{at} comes back too early: {before:?}, then {is:?}"));
                }
            }
        }
        for (view, held) in views.iter().zip(&self.held) {
            if view.in_flight > view.concurrent_max || held.get() > view.in_flight {
                return Err(format!("{} requests go on as {view:?}", held.get()));
            }
        }
        if self.seen.back().is_none_or(|(_, before)| *before != standings) {
            if self.seen.len() == REMEMBERED {
                self.seen.pop_front();
            }
            self.seen.push_back((now, standings));
        }
        Ok(())
    }

    /// A request goes on as somebody, since some moment within this time.
    pub(super) fn goes_on_as(
        &self,
        credential: CredentialId,
        within: (Instant, Instant),
    ) -> Result<Counted, String> {
        let (from, at) = within;
        let ends = self.seen.iter().skip(1).map(|(since, _)| Some(*since)).chain([None]);
        let then = self
            .seen
            .iter()
            .zip(ends)
            .filter(|((since, _), end)| *since <= at && end.is_none_or(|end| from <= end));
        let known_from = self.seen.front().is_none_or(|(first, _)| *first > from);
        let was_in = then
            .map(|((_, standings), _)| standings[credential.0])
            .any(|standing| out_until(standing).is_none_or(|until| until <= at));
        if known_from || was_in {
            return Ok(Counted::in_(&self.held[credential.0]));
        }
        Err(format!("a request goes on as {}, which is left alone", credential.0))
    }

    /// At rest, what is counted is what is held.
    pub(super) fn is_even(&self, views: &[CredentialView]) -> bool {
        self.held.iter().zip(views).all(|(held, view)| held.get() == view.in_flight)
    }
}

/// In this bucket only one client raises doubts, and no check finds a credential refused: none may ever be withdrawn.
const LONE_DOUBTER_IN: BucketId = BucketId::new(0);
const LONE_DOUBTER: IpKey = IpKey::V4(0);
/// The longest that a check takes.
const CHECK_MS_MAX: u64 = 200;

impl Client {
    /// Tells the pool what an answer says of the permit's credential; returns whether that is something against it.
    pub(super) fn judge(&self, permit: &Permit, course: &Course) -> bool {
        let Some(credential) = permit.credential() else { return false };
        let Self { world, script, .. } = self;
        let pool = &world.pools[script.bucket.index()];
        let mut dice = world.dice.borrow_mut();
        let path = dice.between(0, 4);
        let evidence = Evidence { client: pool.fingerprint(script.address), path, request: path };
        match course.outcome {
            Outcome::Success => {
                pool.accepted(credential, evidence, clock::now());
                false
            }
            Outcome::Failure { .. } => false,
            Outcome::Neutral => {
                let asked = dice.one_of([
                    None,
                    Some(Duration::ZERO),
                    Some(Duration::from_millis(300)),
                    Some(Duration::MAX),
                ]);
                let may_doubt = script.bucket != LONE_DOUBTER_IN || script.address == LONE_DOUBTER;
                let is_doubt = may_doubt && dice.once_in(2);
                let setback = if is_doubt { Setback::Doubted(evidence) } else { Setback::Throttled(asked) };
                pool.set_back(credential, setback);
                true
            }
        }
    }
}

impl Episode {
    /// Has suspects checked, as `src/upstream/credential_check.rs` does.
    pub(super) fn check_credentials(&mut self) {
        let Some(at) = self.clients.iter().position(Option::is_none) else { return };
        let chosen = self.dice.below(self.world.pools.len());
        let suspects = self.world.pools[chosen].suspects();
        if suspects.is_empty() {
            return;
        }
        let takes = Duration::from_millis(self.dice.between(0, CHECK_MS_MAX));
        let results = [CredentialCheck::Accepted, CredentialCheck::Inconclusive, CredentialCheck::Refused];
        let possible = if chosen == LONE_DOUBTER_IN.index() { 2 } else { 3 };
        let found = results[self.dice.below(possible)];
        let pool = self.world.pools[chosen].clone();
        let checking = async move {
            tokio::time::sleep(takes).await;
            for credential in suspects {
                pool.credential_checked(credential, found, clock::now());
            }
        };
        self.clients[at] = Some(Running::new(checking, Arc::clone(&Signal::new()), 0));
        self.note("credentials are checked", chosen);
    }
}

impl Client {
    /// Writes down as whom a request goes on, if that is somebody else than before.
    pub(super) fn goes_on_as(&self, permit: &mut Held<Permit>, decided: u64) {
        let Some(credential) = permit.thing.as_ref().and_then(Permit::credential) else { return };
        permit.share = None;
        let mut ledger = self.world.ledger.borrow_mut();
        permit.share = ledger.goes_on_as(self.script.bucket, credential, decided, clock::now());
    }

    /// To go on as somebody else, whatever the other one was refused for.
    pub(super) async fn trade(&self, permit: &mut Held<Permit>) -> bool {
        let Some(trading) = &mut permit.thing else { return false };
        let asked = clock::now();
        if !self.world.pools[self.script.bucket.index()].trade(trading).await {
            return false;
        }
        self.goes_on_as(permit, self.decided(asked));
        true
    }

    /// For a retry: elsewhere, and perhaps as somebody else.
    pub(super) async fn move_on(&self, permit: &mut Held<Permit>) -> Result<(), PoolRejection> {
        let Self { world, script, .. } = self;
        let Some(moving) = &mut permit.thing else { return Ok(()) };
        let (endpoint, credential) = (moving.endpoint(), moving.credential());
        let asked = clock::now();
        world.pools[script.bucket.index()].repick(moving).await?;
        // Without an answer it stays as it was, which is no choice.
        let decided = self.decided(asked);
        if moving.endpoint() != endpoint {
            world.ledger.borrow_mut().chosen(script.bucket, moving.endpoint().0, decided, clock::now());
        }
        if moving.credential() != credential {
            self.goes_on_as(permit, decided);
        }
        Ok(())
    }
}
