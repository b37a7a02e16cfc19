//! The queue in scripted tests and against a naive model (P3, P4).

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::clock;
use crate::pool::decision::WaitRejection;
use crate::pool::gate::ticket::Permit;

/// A numbered waiter that can be cancelled.
#[derive(Debug, Clone)]
struct FakeWaiter {
    number: usize,
    is_cancelled: Rc<Cell<bool>>,
}

impl FakeWaiter {
    fn new(number: usize) -> Self {
        Self { number, is_cancelled: Rc::default() }
    }
}

impl Waiter for FakeWaiter {
    fn is_cancelled(&self) -> bool {
        self.is_cancelled.get()
    }
    fn try_grant(self, permit: Permit) -> Result<(), Permit> {
        Err(permit)
    }
    fn reject(self, _: WaitRejection) {}
}

fn serve(queue: &mut WaitQueue<FakeWaiter>) -> Option<usize> {
    let class = queue.next_class()?;
    queue.pop(class).map(|waiter| waiter.number)
}

fn queue(priorities: &[Priority]) -> WaitQueue<FakeWaiter> {
    let mut queue = WaitQueue::new(None);
    for (number, priority) in priorities.iter().enumerate() {
        queue.push(FakeWaiter::new(number), *priority, clock::now());
    }
    queue
}

use Priority::{High, Low, Normal};

/// P3, P4: the highest class goes first; within a class, first come, first served
#[test]
fn the_highest_class_goes_first_in_its_own_order() {
    let mut queue = queue(&[Low, Normal, High, Low, High, Normal]);
    assert_eq!([High, Normal, Low].map(|priority| queue.len_ahead(priority)), [2, 4, 6]);
    let served: Vec<usize> = std::iter::from_fn(|| serve(&mut queue)).collect();
    assert_eq!(served, [2, 4, 1, 5, 0, 3]);
}

/// P4: without classes a queue is served in order, also with cancelled waiters
#[test]
fn one_class_is_first_come_first_served() {
    let mut queue = WaitQueue::new(None);
    let waiters: Vec<FakeWaiter> = (0..5).map(FakeWaiter::new).collect();
    waiters.iter().for_each(|waiter| queue.push(waiter.clone(), Normal, clock::now()));
    waiters[0].is_cancelled.set(true);
    waiters[2].is_cancelled.set(true);
    assert_eq!((queue.len(), queue.live_len(), queue.is_all_cancelled()), (5, 3, false));
    let served: Vec<usize> = std::iter::from_fn(|| serve(&mut queue)).collect();
    assert_eq!(served, [1, 3, 4]);
}

/// P3: a class with endless arrivals does not starve the lower ones: each gets one of twelve grants
#[test]
fn no_class_starves() {
    let mut queue = queue(&[Normal, Normal, Low, Low]);
    let mut served = Vec::new();
    for number in 100..140 {
        queue.push(FakeWaiter::new(number), High, clock::now());
        served.extend(serve(&mut queue).filter(|number| *number < 100).map(|lower| (number - 100, lower)));
    }
    assert_eq!(served, [(10, 0), (11, 2), (22, 1), (23, 3)]);
}

/// P3: the last waiter is displaced by a newcomer that goes before it, and by no other
#[test]
fn the_last_of_the_lowest_class_is_displaced() {
    let mut queue = queue(&[High, Low, Normal, Low]);
    let numbers = |waiter: Option<FakeWaiter>| waiter.map(|waiter| waiter.number);
    assert!(!queue.has_displaceable(Low) && queue.has_displaceable(Normal) && queue.has_displaceable(High));
    assert_eq!(numbers(queue.displace(Low)), None);
    assert_eq!(numbers(queue.displace(Normal)), Some(3));
    assert_eq!(numbers(queue.displace(High)), Some(1));
    assert!(!queue.has_displaceable(Normal));
    assert_eq!(numbers(queue.displace(Normal)), None);
    assert_eq!(numbers(queue.displace(High)), Some(2));
    assert_eq!(numbers(queue.displace(High)), None);
}

#[derive(Debug, Clone)]
enum Op {
    Push(Priority),
    Cancel(prop::sample::Index),
    Pop,
    Prune,
    Displace(Priority),
}

fn op() -> impl Strategy<Value = Op> {
    let priority = || prop::sample::select(&Priority::ALL[..]);
    prop_oneof![
        6 => priority().prop_map(Op::Push),
        2 => any::<prop::sample::Index>().prop_map(Op::Cancel),
        4 => Just(Op::Pop),
        1 => Just(Op::Prune),
        1 => priority().prop_map(Op::Displace),
    ]
}

/// All live waiters in one list, in the order of arrival.
#[derive(Default)]
struct Model {
    waiters: Vec<(usize, Priority)>,
    passed: [u32; 3],
}

impl Model {
    fn waits(&self, priority: Priority) -> bool {
        self.waiters.iter().any(|(_, other)| *other == priority)
    }

    fn serve(&mut self) -> Option<usize> {
        let overdue = |priority: &Priority| self.waits(*priority) && self.passed[index(*priority)] >= 10;
        let class = Priority::ALL.into_iter().find(overdue);
        let class = class.or_else(|| Priority::ALL.into_iter().find(|priority| self.waits(*priority)))?;
        for lower in Priority::ALL.into_iter().filter(|other| index(*other) > index(class)) {
            let passed = if self.waits(lower) { self.passed[index(lower)] + 1 } else { 0 };
            self.passed[index(lower)] = passed;
        }
        self.passed[index(class)] = 0;
        let at = self.waiters.iter().position(|(_, priority)| *priority == class)?;
        Some(self.waiters.remove(at).0)
    }

    fn displace(&mut self, newcomer: Priority) -> Option<usize> {
        let lowest = self.waiters.iter().map(|(_, priority)| index(*priority)).max()?;
        let at = self.waiters.iter().rposition(|(_, priority)| index(*priority) == lowest)?;
        (lowest > index(newcomer)).then(|| self.waiters.remove(at).0)
    }
}

proptest! {
    /// P3, P4: in every interleaving the queue serves and displaces as the model does, and no waiting class is passed
    /// over more than eleven times
    #[test]
    fn a_queue_matches_the_model(ops in prop::collection::vec(op(), 1..300)) {
        let (mut queue, mut model) = (WaitQueue::new(None), Model::default());
        let mut waiters: Vec<FakeWaiter> = Vec::new();
        let mut passed_in_a_row = [0; 3];
        for op in ops {
            match op {
                Op::Push(priority) => {
                    let waiter = FakeWaiter::new(waiters.len());
                    waiters.push(waiter.clone());
                    model.waiters.push((waiter.number, priority));
                    queue.push(waiter, priority, clock::now());
                }
                Op::Cancel(which) if !waiters.is_empty() => {
                    let waiter = &waiters[which.index(waiters.len())];
                    waiter.is_cancelled.set(true);
                    model.waiters.retain(|(number, _)| *number != waiter.number);
                }
                Op::Cancel(_) => {}
                Op::Pop => {
                    let waited = Priority::ALL.map(|priority| model.waits(priority));
                    let before = model.waiters.clone();
                    let served = serve(&mut queue);
                    prop_assert_eq!(served, model.serve());
                    let class = before.iter().find(|(number, _)| Some(*number) == served).map(|(_, class)| *class);
                    for priority in Priority::ALL {
                        let passed = &mut passed_in_a_row[index(priority)];
                        *passed = if waited[index(priority)] && class != Some(priority) { *passed + 1 } else { 0 };
                        prop_assert!(*passed <= 11, "{:?} was passed by {} times", priority, passed);
                    }
                }
                Op::Prune => {
                    queue.prune();
                    prop_assert_eq!(queue.len(), model.waiters.len());
                }
                Op::Displace(priority) => {
                    queue.prune();
                    let displaced = queue.displace(priority).map(|waiter| waiter.number);
                    prop_assert_eq!(displaced, model.displace(priority));
                }
            }
            prop_assert_eq!(queue.live_len(), model.waiters.len());
            prop_assert_eq!(queue.is_all_cancelled(), model.waiters.is_empty());
        }
    }
}

const DELAY: CodelSettings = CodelSettings { target: ms(20), interval: ms(100) };

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A queue that has been overloaded for long; all its waiters came at `t0`.
fn overloaded(priorities: &[Priority], t0: Instant) -> WaitQueue<FakeWaiter> {
    let mut queue = WaitQueue::new(Some(DELAY));
    for (number, priority) in priorities.iter().enumerate() {
        queue.push(FakeWaiter::new(number), *priority, t0);
    }
    queue.update_overload(t0 + ms(120));
    assert!(queue.is_overloaded());
    queue
}

/// P3: in overload the newest of a class goes first, and a newcomer has no waiter of its class ahead
#[test]
fn in_overload_the_newest_goes_first() {
    let t0 = clock::now();
    let mut queue = overloaded(&[Normal, Low, Normal], t0);
    queue.push(FakeWaiter::new(3), Normal, t0 + ms(121));
    queue.push(FakeWaiter::new(4), Low, t0 + ms(122));
    assert_eq!([High, Normal, Low].map(|priority| queue.len_ahead(priority)), [0, 0, 3]);
    let served: Vec<usize> = std::iter::from_fn(|| serve(&mut queue)).collect();
    assert_eq!(served, [3, 2, 0, 4, 1]);
    queue.update_overload(t0 + ms(123));
    assert!(!queue.is_overloaded(), "the queue was empty");
}

/// P3: in overload waiters later than the target are shed, lowest class first, but never the last waiter
#[test]
fn in_overload_late_waiters_are_shed() {
    let t0 = clock::now();
    let numbers = |shed: Vec<FakeWaiter>| shed.into_iter().map(|waiter| waiter.number).collect::<Vec<_>>();
    let mut queue = overloaded(&[High, Normal, Low], t0);
    assert_eq!(numbers(queue.shed(t0 + ms(20))), [0; 0], "20 ms are within the target");
    assert_eq!(numbers(queue.shed(t0 + ms(121))), [2, 1]);
    assert_eq!(numbers(queue.shed(t0 + ms(900))), [0; 0], "the last waiter stays for the next permit");
    queue.push(FakeWaiter::new(3), Low, t0 + ms(900));
    assert_eq!(numbers(queue.shed(t0 + ms(901))), [0]);
    assert_eq!(serve(&mut queue), Some(3));
}

/// P3: in overload a newcomer finds room in a full queue: the oldest of its class is displaced
#[test]
fn in_overload_the_oldest_is_displaced() {
    let mut queue = overloaded(&[High, Normal, Normal], clock::now());
    assert!(!queue.has_displaceable(Low) && queue.has_displaceable(Normal));
    assert_eq!(queue.displace(Low).map(|waiter| waiter.number), None);
    assert_eq!(queue.displace(Normal).map(|waiter| waiter.number), Some(1));
}

proptest! {
    /// P3: in every interleaving no waiter is shed that waited at most the target, or without overload, or as the last;
    /// and after an update no other late waiter is left in overload
    #[test]
    fn only_late_waiters_are_shed(ops in prop::collection::vec((0u64..30, op()), 1..300)) {
        let (mut queue, mut now) = (WaitQueue::new(Some(DELAY)), clock::now());
        let mut waiters: Vec<(FakeWaiter, Instant)> = Vec::new();
        for (step, op) in ops {
            now += ms(step);
            match op {
                Op::Push(priority) => {
                    let waiter = FakeWaiter::new(waiters.len());
                    waiters.push((waiter.clone(), now));
                    queue.update_overload(now);
                    queue.push(waiter, priority, now);
                }
                Op::Cancel(which) if !waiters.is_empty() => waiters[which.index(waiters.len())].0.is_cancelled.set(true),
                Op::Cancel(_) | Op::Displace(_) => {}
                Op::Pop => {
                    let newest_first = queue.is_overloaded();
                    let waiting = queue.live_len();
                    let served = serve(&mut queue);
                    prop_assert_eq!(served.is_some(), waiting > 0, "newest first: {}", newest_first);
                    if let Some(number) = served { waiters[number].0.is_cancelled.set(true) }
                }
                Op::Prune => queue.prune(),
            }
            queue.update_overload(now);
            let (before, is_overloaded) = (queue.live_len(), queue.is_overloaded());
            let shed = queue.shed(now);
            prop_assert!(shed.is_empty() || is_overloaded);
            prop_assert!(shed.iter().all(|waiter| now - waiters[waiter.number].1 > DELAY.target && !waiter.is_cancelled()));
            prop_assert_eq!(queue.live_len(), before - shed.len());
            prop_assert!(before == 0 || queue.live_len() > 0);
            if is_overloaded && queue.live_len() > 1 {
                let late = waiters.iter().filter(|(waiter, since)| !waiter.is_cancelled() && now - *since > DELAY.target);
                prop_assert!(late.count() - shed.len() <= 1);
            }
            for waiter in shed { waiter.is_cancelled.set(true) }
        }
    }
}
