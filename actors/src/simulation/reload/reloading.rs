//! A reload in the order of `src/gateway/reload.rs`, and the retirement of `src/gateway/replaced.rs`.
//!
//! Requests, crashes and time go on while a reload is prepared, and while the threads switch one after the other.

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;

use prometheus::Registry;
use tidegate_config::Config;

use crate::breaker::CircuitState;
use crate::events::{ActorChange, ActorEventSink};
use crate::ids::Ids;
use crate::reconfigure::{ActorsReconfigure, Withdrawn};
use crate::simulation::client_waker::ClientWaker;
use crate::simulation::ledger::Invariant;
use crate::simulation::reload::configuration::Configuration;
use crate::simulation::reload::planted_fault::ReloadFault;
use crate::simulation::reload::scenario::{ReloadScenario, build_actors};
use crate::simulation::running_client::RunningClient;
use crate::simulation::stepped_actor::{StepFault, SteppableActor};
use crate::system::{ActorSystem, Actors};
use crate::types::{BucketId, ConfigNumber, KeyId};

/// A reload that is ready for its commit.
pub(super) struct PreparedReload {
    before: Rc<Configuration>,
    config: Config,
    ids: Ids,
    number: ConfigNumber,
    change: ActorsReconfigure,
}

struct NoEvents;

impl ActorEventSink for NoEvents {
    fn record(&self, _: Option<BucketId>, _: &ActorChange) {}
}

impl ReloadScenario {
    /// Starts a reload. One that is under way goes first: all threads have switched, and it is prepared.
    pub(super) fn start_reload(&mut self) {
        let before = Rc::clone(&self.shared.current.borrow());
        if self.preparing.is_some() || self.slots.iter().any(|slot| slot.number != before.number) {
            return;
        }
        self.plan.change(&mut self.rng);
        let config = match self.plan.config() {
            Ok(config) => config,
            Err(what) => {
                self.shared.ledger.borrow_mut().check(Invariant::Setup, false, || what);
                return;
            }
        };
        let ids = if self.has_fault(ReloadFault::IdsByPosition) {
            Ids::new(&config)
        } else {
            before.ids.reloaded(&config)
        };
        let (number, prepared) = (before.number.next(), Rc::clone(&self.prepared));
        let preparing = async move {
            let events = Arc::new(NoEvents);
            let change = before.actors.reconfigured(&before.config, (&config, &ids), number, events).await;
            *prepared.borrow_mut() = Some(PreparedReload { before, config, ids, number, change });
        };
        self.preparing = Some(RunningClient::new(preparing, ClientWaker::new(), 0));
        self.record_event("reload begins", number.get());
    }

    /// Prepares the reload further, commits it once it is prepared, or switches a thread.
    pub(super) fn continue_reload(&mut self) {
        if let Some(mut preparing) = self.preparing.take_if(|preparing| preparing.waker.is_woken())
            && !self.poll(&mut preparing)
        {
            self.preparing = Some(preparing);
        }
        let prepared = self.prepared.borrow_mut().take();
        if let Some(prepared) = prepared {
            self.commit(prepared);
        } else if self.rng.one_in(4) {
            let thread = self.rng.below(self.slots.len());
            self.slots[thread] = Rc::clone(&self.shared.current.borrow());
        }
    }

    pub(super) fn has_fault(&self, fault: ReloadFault) -> bool {
        self.shared.planted_fault == Some(fault)
    }

    fn commit(&mut self, prepared: PreparedReload) {
        let PreparedReload { before, config, ids, number, mut change } = prepared;
        let mut extra_actors = Vec::new();
        if self.has_fault(ReloadFault::SeparateGates) || self.has_fault(ReloadFault::CloseCircuits) {
            extra_actors = self.replace_actors(&config, &ids, (&before.actors, &mut change.actors));
        }
        let next = Configuration::new(number, (config, ids), change.actors.clone(), self.slots.len());
        let next = Rc::new(next);
        let withdrawn = before.withdrawn(&next);
        let purged = if self.has_fault(ReloadFault::KeepWithdrawn) { Vec::new() } else { withdrawn.clone() };
        let launches = change.commit(Withdrawn { keys: purged, all_tokens: false });
        if self.has_fault(ReloadFault::KeepOldLimits) {
            before.actors.limiter.reconfigured(&before.config, &before.ids).1.commit();
        }
        self.shared.ledger.borrow_mut().record_commit(&next, &withdrawn, self.now);
        let new_actors = launches.into_stepped().into_iter().chain(extra_actors);
        for mut actor in new_actors {
            // It starts before any thread switches.
            actor.step(StepFault::None, self.now);
            self.stepped_actors.push(actor);
        }
        if self.has_fault(ReloadFault::ResetLimiter) {
            Self::reset_limiter(&next);
        }
        self.in_use.insert(number, Rc::clone(&next));
        *self.shared.current.borrow_mut() = next;
        self.shared.ledger.borrow_mut().observe_circuits(self.now);
        self.reloads += 1;
        self.record_event("reload is committed", number.get());
    }

    /// Replaces pools in use, or breakers with an open circuit, by such as know nothing of the replaced ones, as a planted fault.
    fn replace_actors(
        &self,
        config: &Config,
        ids: &Ids,
        (before, actors): (&Actors, &mut Actors),
    ) -> Vec<Box<dyn SteppableActor>> {
        let Ok(ActorSystem { pools, breakers, launches, .. }) =
            build_actors(config, &Registry::new(), self.seed)
        else {
            return Vec::new();
        };
        let names = ids.buckets().map(|(_, id)| id).zip(pools.into_iter().zip(breakers));
        let replaces_pools = self.has_fault(ReloadFault::SeparateGates);
        let mut replaced = HashSet::new();
        for (id, (pool, breaker)) in names {
            let Some(used) = before.pools.get(id).zip(before.breakers.get(id)) else { continue };
            let is_open = used.1.views(self.now).any(|view| view.state == CircuitState::Open);
            if replaces_pools && used.0.in_flight() > 0 {
                replaced.insert(pool.actor().actor_stats().name().to_owned());
                actors.pools.insert(id, pool);
            } else if !replaces_pools && is_open {
                replaced.insert(breaker.actor().actor_stats().name().to_owned());
                actors.breakers.insert(id, breaker);
            }
        }
        let stepped = launches.into_stepped().into_iter();
        stepped.filter(|actor| replaced.contains(actor.actor_stats().name())).collect()
    }

    /// Removes all limits and sets them again, so that their times are lost, as a planted fault.
    fn reset_limiter(next: &Configuration) {
        let mut unlimited = next.config.clone();
        let limits = &mut unlimited.rate_limit;
        (limits.global, limits.per_ip, limits.per_key) = (None, None, None);
        unlimited.buckets.values_mut().for_each(|bucket| bucket.rate_limit = None);
        unlimited.keys.values_mut().for_each(|key| key.rate_limit = None);
        let limiter = &next.actors.limiter;
        limiter.reconfigured(&unlimited, &next.ids).1.commit();
        limiter.reconfigured(&next.config, &next.ids).1.commit();
    }

    /// Retires the configurations that no request and no thread has.
    pub(super) fn retire_unused(&mut self) {
        let current = self.shared.current.borrow().number;
        let is_unused = |one: &Rc<Configuration>| one.number != current && Rc::strong_count(one) == 1;
        let unused: Vec<_> =
            self.in_use.values().filter(|one| is_unused(one)).map(|one| one.number).collect();
        for number in unused {
            if let Some(retired) = self.in_use.remove(&number) {
                self.retire(&retired);
            }
        }
        self.stepped_actors.retain(|actor| !actor.actor_stats().has_ended());
    }

    fn retire(&mut self, retired: &Configuration) {
        let current = Rc::clone(&self.shared.current.borrow());
        if !self.has_fault(ReloadFault::KeepActors) {
            let in_use: Vec<&Actors> = self.in_use.values().rev().map(|one| &one.actors).collect();
            retired.actors.end_retired(&in_use);
        }
        let is_used = |id: &BucketId| self.in_use.values().any(|one| one.has_bucket(*id));
        let buckets: Vec<BucketId> =
            retired.buckets.iter().map(|(_, id)| *id).filter(|id| !is_used(id)).collect();
        let is_used = |id: &KeyId| self.in_use.values().any(|one| one.has_key(*id));
        let keys: Vec<KeyId> = retired.keys.iter().map(|(_, id)| *id).filter(|id| !is_used(id)).collect();
        self.shared.ledger.borrow_mut().record_gone(&buckets, &keys);
        if !self.has_fault(ReloadFault::KeepLimits) && (!buckets.is_empty() || !keys.is_empty()) {
            current.actors.limiter.forget(buckets.clone(), keys.clone());
        }
        self.gone.0.extend(buckets);
        self.gone.1.extend(keys);
        let names: HashSet<&str> = current.buckets.iter().map(|(name, _)| &**name).collect();
        for (name, _) in retired.buckets.iter().filter(|(name, _)| !names.contains(&**name)) {
            current.actors.shedding.remove_series(name);
        }
        if self.has_fault(ReloadFault::ReviveSeries) {
            retired.actors.observe(self.now);
        }
        if let Some((oldest, _)) = self.in_use.first_key_value() {
            current.actors.sessions.retire_before(*oldest);
        }
        self.retired += 1;
        self.record_event("configuration retires", retired.number.get());
    }
}
