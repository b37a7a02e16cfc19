//! An overloaded queue with its cursor, in steps of a millisecond: what the heaviest client costs the others, from the first
//! request on.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_config::{ActionMode, Priority};

use crate::clock;
use crate::shedding::cursor::CursorTarget;
use crate::shedding::owner::{CursorOwner, PressureReading};
use crate::shedding::shedder::{Shedder, SheddingDecision};
use crate::shedding::{CutRule, Shed};
use crate::types::{ClientId, IpKey, KeyId};

const SECONDS: u64 = 15;
const QUEUED_MAX: usize = 200;

/// Requests of a client.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    served: u32,
    shed: u32,
    /// Requests that were shed as above the fair share.
    excess: u32,
    queue_full: u32,
}

impl Counts {
    fn lost(&self) -> f64 {
        let lost = f64::from(self.shed + self.queue_full);
        lost / (lost + f64::from(self.served)).max(1.0)
    }
}

/// A client with its requests a second. With many addresses each request comes from another one.
#[derive(Debug, Clone, Copy)]
struct Load {
    per_second: f64,
    has_many_addresses: bool,
}

fn steady(per_second: f64) -> Load {
    Load { per_second, has_many_addresses: false }
}

struct Overload {
    shedder: Arc<Shedder>,
    owner: CursorOwner,
    /// State of a generator (xorshift).
    random: u64,
    queue: VecDeque<usize>,
    counts: Vec<Counts>,
    addresses: u64,
}

impl Overload {
    /// Runs the loads on an upstream with this capacity in requests a second. The queue is measured every 100 ms.
    fn run(capacity: f64, loads: &[Load]) -> Vec<Counts> {
        let start = clock::now();
        let target = CursorTarget::of_queue(Duration::from_secs(1));
        let shedder = Arc::new(Shedder::new((ActionMode::Enforce, target), 50.0, start));
        let mut owner = CursorOwner::new(Arc::clone(&shedder), start);
        owner.begin(start);
        let counts = vec![Counts::default(); loads.len()];
        let mut length_before = 0;
        let mut run = Self {
            shedder,
            owner,
            random: 0x9E37_79B9_7F4A_7C15,
            queue: VecDeque::new(),
            counts,
            addresses: 0,
        };
        for step in 1..=SECONDS * 1_000 {
            let now = start + Duration::from_millis(step);
            for (client, load) in loads.iter().enumerate() {
                if run.happens(load.per_second) {
                    run.arrive(client, *load, now);
                }
            }
            if run.happens(capacity)
                && let Some(client) = run.queue.pop_front()
            {
                run.counts[client].served += 1;
            }
            if step % 100 == 0 {
                let wait = Duration::from_secs_f64(run.queue.len() as f64 / capacity);
                let lower = run.queue.len().min(length_before);
                length_before = run.queue.len();
                let percent = 100.0 * lower as f64 / QUEUED_MAX as f64;
                let pressure = PressureReading { percent, exhausted: 100.0 };
                run.owner.update_queue((Some(wait), Some(wait)), Some(pressure), now);
            }
        }
        run.counts
    }

    /// Whether an event with this rate happens in this millisecond.
    fn happens(&mut self, per_second: f64) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        ((self.random >> 11) as f64) < per_second / 1_000.0 * (1_u64 << 53) as f64
    }

    fn arrive(&mut self, client: usize, load: Load, now: Instant) {
        self.addresses += 1;
        let id = if load.has_many_addresses {
            ClientId::Address(IpKey::V6Net(self.addresses))
        } else {
            ClientId::Key(KeyId::new(u32::try_from(client).unwrap()))
        };
        self.shedder.charge(id, Priority::Normal, 1.0);
        let counts = &mut self.counts[client];
        match self.shedder.decide(Some(id), Priority::Normal, now) {
            SheddingDecision::Refuse(Shed { rule, .. }) => {
                counts.shed += 1;
                counts.excess += u32::from(rule == CutRule::Excess);
            }
            _ if self.queue.len() >= QUEUED_MAX => counts.queue_full += 1,
            _ => self.queue.push_back(client),
        }
    }
}

/// X11, X6: a client with twenty times the share of the others costs them less than 1 % of their requests from the first one
/// on, with any number of them
#[test]
fn a_heavy_client_costs_the_others_nothing_from_the_start() {
    for (light, per_second, capacity) in
        [(4, 20.0, 95.0), (4, 20.0, 200.0), (20, 5.0, 150.0), (1, 20.0, 50.0)]
    {
        let loads: Vec<Load> =
            std::iter::once(steady(400.0)).chain(std::iter::repeat_n(steady(per_second), light)).collect();
        let counts = Overload::run(capacity, &loads);
        let others = counts[1..].iter().fold(Counts::default(), |all, one| Counts {
            served: all.served + one.served,
            shed: all.shed + one.shed,
            excess: all.excess + one.excess,
            queue_full: all.queue_full + one.queue_full,
        });
        assert!(
            others.lost() < 0.01,
            "{light} with {per_second}/s of {capacity}/s: {others:?} {:?}",
            counts[0]
        );
        assert!(counts[0].served > 10 && counts[0].shed > 100, "{:?}", counts[0]);
    }
}

/// X11: if the others alone are too much, whole clients are refused after the excess of the heavy one
#[test]
fn an_overload_by_all_cuts_whole_clients() {
    let loads: Vec<Load> = std::iter::once(steady(100.0)).chain([steady(20.0); 20]).collect();
    let counts = Overload::run(200.0, &loads);
    let lost = counts[1..].iter().map(Counts::lost).sum::<f64>() / 20.0;
    assert!((0.25..0.75).contains(&lost), "{lost} {counts:?}");
    assert!(counts.iter().map(|counts| counts.queue_full).sum::<u32>() < 1_000, "{counts:?}");
}

/// X11: a client with nearly all of the traffic is thinned and never shut out
#[test]
fn a_client_with_most_of_the_traffic_is_never_shut_out() {
    for loads in [vec![steady(400.0)], vec![steady(400.0), steady(5.0)]] {
        let counts = Overload::run(100.0, &loads);
        assert!(counts[0].served > 1_000 && counts[0].shed > 2_000, "{counts:?}");
        assert!(counts[1..].iter().all(|counts| counts.lost() < 0.05), "{counts:?}");
    }
}

/// X11, X6: an attacker that changes its address with each request does not make steady clients heavy
#[test]
fn changing_addresses_do_not_make_the_others_heavy() {
    let attacker = Load { per_second: 400.0, has_many_addresses: true };
    let loads: Vec<Load> = std::iter::once(attacker).chain([steady(15.0); 4]).collect();
    let counts = Overload::run(200.0, &loads);
    let excess: u32 = counts[1..].iter().map(|counts| counts.excess).sum();
    let all: u32 = counts[1..].iter().map(|counts| counts.served + counts.shed + counts.queue_full).sum();
    assert!(f64::from(excess) < 0.01 * f64::from(all), "{counts:?}");
}

/// X11, X6: a heavy client is found among more clients than the table has slots, and costs them nothing
#[test]
fn a_heavy_client_is_found_in_a_crowd() {
    let crowd = Load { per_second: 250.0, has_many_addresses: true };
    let counts = Overload::run(350.0, &[steady(400.0), crowd]);
    assert!(counts[1].lost() < 0.01 && counts[0].shed > 2_000 && counts[0].served > 500, "{counts:?}");
}
