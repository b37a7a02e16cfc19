//! The line, by hand and against a naive model of it (P3, P4).

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::clock;
use crate::pool::state::WaitRejection;
use crate::pool::ticket::Permit;

/// Somebody with a number, who may leave.
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

fn serve(line: &mut WaitQueue<FakeWaiter>) -> Option<usize> {
    let turn = line.next_class()?;
    line.pop(turn).map(|person| person.number)
}

fn queue(priorities: &[Priority]) -> WaitQueue<FakeWaiter> {
    let mut line = WaitQueue::new(None);
    for (number, priority) in priorities.iter().enumerate() {
        line.push(FakeWaiter::new(number), *priority, clock::now());
    }
    line
}

use Priority::{High, Low, Normal};

/// P3, P4: the highest class goes first, and within it who came first
#[test]
fn the_highest_class_goes_first_in_its_own_order() {
    let mut line = queue(&[Low, Normal, High, Low, High, Normal]);
    assert_eq!([High, Normal, Low].map(|priority| line.len_ahead(priority)), [2, 4, 6]);
    let served: Vec<usize> = std::iter::from_fn(|| serve(&mut line)).collect();
    assert_eq!(served, [2, 4, 1, 5, 0, 3]);
}

/// P4: without classes a line is served in its order, whoever has left
#[test]
fn one_class_is_first_come_first_served() {
    let mut line = WaitQueue::new(None);
    let people: Vec<FakeWaiter> = (0..5).map(FakeWaiter::new).collect();
    people.iter().for_each(|person| line.push(person.clone(), Normal, clock::now()));
    people[0].is_cancelled.set(true);
    people[2].is_cancelled.set(true);
    assert_eq!((line.len(), line.live_len(), line.is_all_cancelled()), (5, 3, false));
    let served: Vec<usize> = std::iter::from_fn(|| serve(&mut line)).collect();
    assert_eq!(served, [1, 3, 4]);
}

/// P3: a class that never ends does not starve those below it: each has one place of twelve
#[test]
fn no_class_starves() {
    let mut line = queue(&[Normal, Normal, Low, Low]);
    let mut served = Vec::new();
    for number in 100..140 {
        line.push(FakeWaiter::new(number), High, clock::now());
        served.extend(serve(&mut line).filter(|number| *number < 100).map(|lower| (number - 100, lower)));
    }
    assert_eq!(served, [(10, 0), (11, 2), (22, 1), (23, 3)]);
}

/// P3: the last in the line goes for a newcomer that stands before it, and for no other
#[test]
fn the_last_of_the_lowest_class_is_displaced() {
    let mut line = queue(&[High, Low, Normal, Low]);
    let numbers = |person: Option<FakeWaiter>| person.map(|person| person.number);
    assert!(!line.has_displaceable(Low) && line.has_displaceable(Normal) && line.has_displaceable(High));
    assert_eq!(numbers(line.displace(Low)), None);
    assert_eq!(numbers(line.displace(Normal)), Some(3));
    assert_eq!(numbers(line.displace(High)), Some(1));
    assert!(!line.has_displaceable(Normal));
    assert_eq!(numbers(line.displace(Normal)), None);
    assert_eq!(numbers(line.displace(High)), Some(2));
    assert_eq!(numbers(line.displace(High)), None);
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

/// Everybody in one list, in the order of coming; nobody stays in it who has left.
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
        let turn = Priority::ALL.into_iter().find(overdue);
        let turn = turn.or_else(|| Priority::ALL.into_iter().find(|priority| self.waits(*priority)))?;
        for lower in Priority::ALL.into_iter().filter(|other| index(*other) > index(turn)) {
            let passed = if self.waits(lower) { self.passed[index(lower)] + 1 } else { 0 };
            self.passed[index(lower)] = passed;
        }
        self.passed[index(turn)] = 0;
        let at = self.waiters.iter().position(|(_, priority)| *priority == turn)?;
        Some(self.waiters.remove(at).0)
    }

    fn displace(&mut self, newcomer: Priority) -> Option<usize> {
        let lowest = self.waiters.iter().map(|(_, priority)| index(*priority)).max()?;
        let at = self.waiters.iter().rposition(|(_, priority)| index(*priority) == lowest)?;
        (lowest > index(newcomer)).then(|| self.waiters.remove(at).0)
    }
}

proptest! {
    /// P3, P4: whatever happens in whatever order, the line serves and displaces as the model does, and nobody who waits is
    /// passed by more than eleven times
    #[test]
    fn a_queue_matches_the_model(ops in prop::collection::vec(op(), 1..300)) {
        let (mut line, mut model) = (WaitQueue::new(None), Model::default());
        let mut people: Vec<FakeWaiter> = Vec::new();
        let mut passed_in_a_row = [0; 3];
        for op in ops {
            match op {
                Op::Push(priority) => {
                    let person = FakeWaiter::new(people.len());
                    people.push(person.clone());
                    model.waiters.push((person.number, priority));
                    line.push(person, priority, clock::now());
                }
                Op::Cancel(which) if !people.is_empty() => {
                    let person = &people[which.index(people.len())];
                    person.is_cancelled.set(true);
                    model.waiters.retain(|(number, _)| *number != person.number);
                }
                Op::Cancel(_) => {}
                Op::Pop => {
                    let waited = Priority::ALL.map(|priority| model.waits(priority));
                    let before = model.waiters.clone();
                    let served = serve(&mut line);
                    prop_assert_eq!(served, model.serve());
                    let class = before.iter().find(|(number, _)| Some(*number) == served).map(|(_, class)| *class);
                    for priority in Priority::ALL {
                        let passed = &mut passed_in_a_row[index(priority)];
                        *passed = if waited[index(priority)] && class != Some(priority) { *passed + 1 } else { 0 };
                        prop_assert!(*passed <= 11, "{:?} was passed by {} times", priority, passed);
                    }
                }
                Op::Prune => {
                    line.prune();
                    prop_assert_eq!(line.len(), model.waiters.len());
                }
                Op::Displace(priority) => {
                    line.prune();
                    let displaced = line.displace(priority).map(|person| person.number);
                    prop_assert_eq!(displaced, model.displace(priority));
                }
            }
            prop_assert_eq!(line.live_len(), model.waiters.len());
            prop_assert_eq!(line.is_all_cancelled(), model.waiters.is_empty());
        }
    }
}

const DELAY: CodelSettings = CodelSettings { target: ms(20), interval: ms(100) };

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A line that has been overloaded for long; everybody in it waits since its beginning.
fn overloaded(priorities: &[Priority], t0: Instant) -> WaitQueue<FakeWaiter> {
    let mut line = WaitQueue::new(Some(DELAY));
    for (number, priority) in priorities.iter().enumerate() {
        line.push(FakeWaiter::new(number), *priority, t0);
    }
    line.update_overload(t0 + ms(120));
    assert!(line.is_overloaded());
    line
}

/// P3: in overload the newest of a class goes first, and a newcomer has nobody of its class ahead
#[test]
fn in_overload_the_newest_goes_first() {
    let t0 = clock::now();
    let mut line = overloaded(&[Normal, Low, Normal], t0);
    line.push(FakeWaiter::new(3), Normal, t0 + ms(121));
    line.push(FakeWaiter::new(4), Low, t0 + ms(122));
    assert_eq!([High, Normal, Low].map(|priority| line.len_ahead(priority)), [0, 0, 3]);
    let served: Vec<usize> = std::iter::from_fn(|| serve(&mut line)).collect();
    assert_eq!(served, [3, 2, 0, 4, 1]);
    line.update_overload(t0 + ms(123));
    assert!(!line.is_overloaded(), "it has been empty");
}

/// P3: in overload those who waited longer than the target go, the lowest class first, but never the last of all
#[test]
fn in_overload_late_waiters_are_shed() {
    let t0 = clock::now();
    let numbers = |shed: Vec<FakeWaiter>| shed.into_iter().map(|person| person.number).collect::<Vec<_>>();
    let mut line = overloaded(&[High, Normal, Low], t0);
    assert_eq!(numbers(line.shed(t0 + ms(20))), [0; 0], "20 ms are no worry");
    assert_eq!(numbers(line.shed(t0 + ms(121))), [2, 1]);
    assert_eq!(numbers(line.shed(t0 + ms(900))), [0; 0], "who is left must be found by a place");
    line.push(FakeWaiter::new(3), Low, t0 + ms(900));
    assert_eq!(numbers(line.shed(t0 + ms(901))), [0]);
    assert_eq!(serve(&mut line), Some(3));
}

/// P3: in overload a newcomer finds room in a full line: the oldest of its class goes
#[test]
fn in_overload_the_oldest_is_displaced() {
    let mut line = overloaded(&[High, Normal, Normal], clock::now());
    assert!(!line.has_displaceable(Low) && line.has_displaceable(Normal));
    assert_eq!(line.displace(Low).map(|person| person.number), None);
    assert_eq!(line.displace(Normal).map(|person| person.number), Some(1));
}

proptest! {
    /// P3: whatever comes and goes, nobody is told to go who did not wait longer than the target, or while it is no overload, or as
    /// the last; and after a look no other late one is left in overload
    #[test]
    fn only_late_waiters_are_shed(ops in prop::collection::vec((0u64..30, op()), 1..300)) {
        let (mut line, mut now) = (WaitQueue::new(Some(DELAY)), clock::now());
        let mut people: Vec<(FakeWaiter, Instant)> = Vec::new();
        for (step, op) in ops {
            now += ms(step);
            match op {
                Op::Push(priority) => {
                    let person = FakeWaiter::new(people.len());
                    people.push((person.clone(), now));
                    line.update_overload(now);
                    line.push(person, priority, now);
                }
                Op::Cancel(which) if !people.is_empty() => people[which.index(people.len())].0.is_cancelled.set(true),
                Op::Cancel(_) | Op::Displace(_) => {}
                Op::Pop => {
                    let newest_first = line.is_overloaded();
                    let waiting = line.live_len();
                    let served = serve(&mut line);
                    prop_assert_eq!(served.is_some(), waiting > 0, "newest first: {}", newest_first);
                    if let Some(number) = served { people[number].0.is_cancelled.set(true) }
                }
                Op::Prune => line.prune(),
            }
            line.update_overload(now);
            let (before, is_overloaded) = (line.live_len(), line.is_overloaded());
            let shed = line.shed(now);
            prop_assert!(shed.is_empty() || is_overloaded);
            prop_assert!(shed.iter().all(|person| now - people[person.number].1 > DELAY.target && !person.is_cancelled()));
            prop_assert_eq!(line.live_len(), before - shed.len());
            prop_assert!(before == 0 || line.live_len() > 0);
            if is_overloaded && line.live_len() > 1 {
                let late = people.iter().filter(|(person, since)| !person.is_cancelled() && now - *since > DELAY.target);
                prop_assert!(late.count() - shed.len() <= 1);
            }
            for person in shed { person.is_cancelled.set(true) }
        }
    }
}
