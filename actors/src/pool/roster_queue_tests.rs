//! Credentials behind a bucket's gate and queue, scripted and over random interleavings (C3, P3, P4).

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use tidegate_config::{Priority, RetryBudgetConfig, UpstreamConfig};

use super::*;
use crate::pool::budget::Budget;
use crate::pool::handle::PoolBounds;
use crate::pool::rotation::Rotation;
use crate::pool::rules::Rules;
use crate::pool::signs::Signs;
use crate::pool::slot::Slot;
use crate::pool::state::{Decision, PoolState, Refusal, Waiter};

const PATIENCE: Duration = Duration::from_secs(1);

/// A pool with credentials, as the shell drives it.
struct World {
    state: PoolState<Slot>,
    shared: Arc<GateShared>,
    signs: Arc<[CredentialSigns]>,
    nudges: Arc<AtomicUsize>,
    due: Option<Instant>,
    now: Instant,
}

impl World {
    fn new(gate: usize, queued: usize, limits: &[(usize, Option<&str>)]) -> Self {
        let nudges = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&nudges);
        let shared = Arc::new(GateShared::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
        }));
        let (endpoints, now) = (Arc::new(Signs::new(1)), clock::now());
        let rotation = Rotation::new(
            Arc::clone(&endpoints),
            Rules::from(&UpstreamConfig::default().load_balancing),
            7,
            now,
        );
        let budget = Budget::new(RetryBudgetConfig::default(), now);
        let signs = signs(limits);
        let rules = CredentialPoolConfig { refused: secs(3), ..CredentialPoolConfig::default() };
        let roster = Roster::new(&signs, &shared, rules);
        let bounds =
            PoolBounds { concurrent_max: gate, queued_max: queued, queue_timeout: PATIENCE, overload: None };
        let state = PoolState::new(Arc::clone(&shared), bounds, endpoints, rotation, budget)
            .with_roster(Some(roster));
        Self { state, shared, signs, nudges, due: None, now }
    }

    fn ask(&mut self) -> Option<Slot> {
        let slot = Slot::default();
        match self.state.decide(Priority::Normal, self.now + secs(30), self.now) {
            Decision::Grant => slot.clone().hand(self.state.grant(self.now).unwrap()).unwrap(),
            Decision::Queue => self.state.enqueue(slot.clone(), Priority::Normal, self.now),
            Decision::Refuse(_) => return None,
        }
        self.arm();
        Some(slot)
    }

    fn arm(&mut self) {
        if let Some(due) = self.state.due(self.now)
            && self.due.is_none_or(|set| due < set)
        {
            self.due = Some(due);
        }
    }

    /// Delivers the nudges that were sent, and the alarm if it is due.
    fn settle(&mut self) {
        loop {
            let rings = self.due.is_some_and(|due| due <= self.now);
            if rings {
                self.due = None;
            } else if self.nudges.load(Ordering::SeqCst) == 0 {
                return;
            } else {
                self.nudges.fetch_sub(1, Ordering::SeqCst);
            }
            self.state.nudge(self.now);
            self.arm();
        }
    }

    fn refuse(&mut self, credential: usize) {
        self.state.roster().unwrap().check_failed(CredentialId(credential), true, self.now);
        self.arm();
    }

    fn set_back(&mut self, credential: usize, setback: Setback) {
        self.state.roster().unwrap().set_back(CredentialId(credential), setback, self.now);
        self.arm();
    }
}

/// C3: who waits is served when the first credential comes back, though nobody gave anything back
#[test]
fn a_waiter_is_served_when_a_credential_comes_back() {
    let mut world = World::new(9, 9, &[(1, None)]);
    world.set_back(0, Setback::Throttled(Some(Duration::from_millis(400))));
    let waiter = world.ask().unwrap();
    assert_eq!(waiter.credential(), None);
    world.now += Duration::from_millis(399);
    world.settle();
    assert_eq!(waiter.credential(), None);
    world.now += Duration::from_millis(1);
    world.settle();
    assert_eq!(waiter.credential(), Some(0));
}

/// C3: nobody waits for what does not come in time; who came before is not overtaken
#[test]
fn a_request_is_refused_at_once_where_waiting_is_of_no_use() {
    let mut world = World::new(9, 9, &[(1, None), (1, None)]);
    world.set_back(0, throttled(30));
    world.set_back(1, throttled(20));
    let until = world.now + secs(20);
    assert_eq!(
        world.state.decide(Priority::Normal, world.now + secs(30), world.now),
        Decision::Refuse(Refusal::Out { until, is_refused: false })
    );
    world.now += secs(19);
    assert_eq!(world.state.decide(Priority::Normal, world.now + secs(30), world.now), Decision::Queue);
    let hurried = world.now + Duration::from_millis(999);
    assert!(
        matches!(
            world.state.decide(Priority::Normal, hurried, world.now),
            Decision::Refuse(Refusal::Out { .. })
        ),
        "its own deadline"
    );
}

/// C3: a queue that stood still while nobody could be served is not taken for a slow one
#[test]
fn standing_still_is_no_pace() {
    let mut world = World::new(1, 50, &[(1, None)]);
    let mut held = world.ask().unwrap();
    for _ in 0..20 {
        let next = world.ask().unwrap();
        world.now += Duration::from_millis(190);
        held.leave();
        world.settle();
        held = next;
    }
    let waiting: Vec<Slot> = (0..4).filter_map(|_| world.ask()).collect();
    assert_eq!(waiting.len(), 4, "four are served within the second");
    let others = (0..4).filter_map(|_| world.ask()).count();
    assert!(others < 4, "no more than the second holds");
    world.set_back(0, Setback::Throttled(Some(Duration::from_millis(100))));
    assert_eq!(world.state.decide(Priority::Normal, world.now + secs(30), world.now), Decision::Queue);
}

/// C3, P4: a retry that goes on as somebody else gives its old place to whoever waits for it
#[test]
fn a_traded_credential_wakes_the_queue() {
    let mut world = World::new(9, 9, &[(1, None), (1, None)]);
    let (first, second) = (world.ask().unwrap(), world.ask().unwrap());
    let third = world.ask().unwrap();
    assert_eq!((first.credential(), second.credential(), third.credential()), (Some(0), Some(1), None));
    assert!(world.state.trade(FIRST, true, world.now).is_err(), "there is no other");
    assert!(matches!(world.state.trade(FIRST, false, world.now), Ok(None)), "it may stay");
    second.leave();
    let traded = world.state.trade(FIRST, true, world.now).unwrap().unwrap();
    // The nudge of the second comes to nothing: its place is taken, and that of the first is not free yet.
    world.settle();
    assert_eq!(third.credential(), None);
    first.go_on_as(traded);
    world.settle();
    assert_eq!((first.credential(), third.credential()), (Some(1), Some(0)));
}

#[derive(Debug, Clone)]
enum Op {
    Ask,
    Leave(prop::sample::Index),
    Trade(prop::sample::Index),
    SetBack(usize, Option<u64>),
    Accept(usize),
    Pass(u64),
    Settle,
    Rebuild,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => Just(Op::Ask),
        4 => any::<prop::sample::Index>().prop_map(Op::Leave),
        1 => any::<prop::sample::Index>().prop_map(Op::Trade),
        2 => (0usize..3, prop::option::of(0u64..4000)).prop_map(|(at, ms)| Op::SetBack(at, ms)),
        1 => (0usize..3).prop_map(Op::Accept),
        3 => (0u64..2000).prop_map(Op::Pass),
        3 => Just(Op::Settle),
        1 => Just(Op::Rebuild),
    ]
}

proptest! {
    /// C3, P3, P4, S5: over all interleavings no credential is used beyond its limit or while it is out, waiters are served in
    /// order, crashes forgive nothing, nothing is leaked, and nobody is forgotten
    #[test]
    fn any_interleaving_keeps_the_limits(
        ops in prop::collection::vec(op(), 1..150), gate in 1usize..5, queued in 0usize..5, max in prop::array::uniform3(1usize..3),
    ) {
        let limits = [(max[0], Some("g")), (max[1], Some("g")), (max[2], None)];
        let mut world = World::new(gate, queued, &limits);
        // What the model knows: until when each is out.
        let mut out = [world.now; 3];
        let mut slots: Vec<Slot> = Vec::new();
        for op in ops {
            let had: Vec<bool> = slots.iter().map(|slot| slot.credential().is_some()).collect();
            match op {
                Op::Ask => slots.extend(world.ask()),
                Op::Leave(i) => if !slots.is_empty() {
                    let i = i.index(slots.len());
                    slots.remove(i).leave();
                },
                Op::Trade(i) => if !slots.is_empty() {
                    let slot = &slots[i.index(slots.len())];
                    if let Some(at) = slot.credential()
                        && let Ok(Some(ticket)) = world.state.trade(CredentialId(at), true, world.now)
                    {
                        prop_assert!(ticket.id().0 != at && out[ticket.id().0] <= world.now);
                        slot.go_on_as(ticket);
                    }
                },
                Op::SetBack(at, Some(ms)) => {
                    world.set_back(at, Setback::Throttled(Some(Duration::from_millis(ms))));
                    for (other, out) in out.iter_mut().enumerate() {
                        if other == at || (at < 2 && other < 2) {
                            *out = (*out).max(world.now + Duration::from_millis(ms));
                        }
                    }
                }
                Op::SetBack(at, None) => {
                    world.refuse(at);
                    out[at] = out[at].max(world.now + secs(3));
                }
                Op::Accept(at) => { world.signs[at].accept(world.now); }
                Op::Pass(ms) => world.now += Duration::from_millis(ms),
                Op::Settle => world.settle(),
                Op::Rebuild => {
                    world.state.rebuild(world.now);
                    slots.retain(|slot| slot.credential().is_some());
                }
            }
            let used = |at| slots.iter().filter(|slot| slot.credential() == Some(at)).count();
            for (at, max) in max.iter().enumerate() {
                prop_assert!(used(at) <= *max, "credential {at} over its limit");
                prop_assert_eq!(used(at), world.signs[at].load(), "a leak");
            }
            if had.len() == slots.len() {
                for (slot, had) in slots.iter().zip(had) {
                    prop_assert!(had || slot.credential().is_none_or(|at| out[at] <= world.now), "granted while out");
                }
            }
            let first_waiting = slots.iter().position(|slot| slot.credential().is_none()).unwrap_or(slots.len());
            prop_assert!(slots[first_waiting..].iter().all(|slot| slot.credential().is_none()), "FIFO");
            prop_assert!(world.shared.gate.live() <= gate);
        }
        // In the end everybody gets a turn: time passes, and those who have a permit leave.
        while !slots.is_empty() {
            world.now += secs(5);
            world.signs.iter().for_each(|one| { one.accept(world.now); });
            world.settle();
            prop_assert!(slots[0].credential().is_some(), "forgotten");
            slots.remove(0).leave();
        }
        world.settle();
        prop_assert_eq!(world.shared.gate.live(), 0);
        prop_assert!(world.signs.iter().all(|one| one.load() == 0));
    }
}
