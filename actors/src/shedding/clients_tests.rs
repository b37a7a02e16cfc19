//! The table of clients: decay, heaviest clients, many light clients, threads that charge at once.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::shedding::fair_share::fair_share;

fn key(number: u32) -> ClientId {
    ClientId::Key(KeyId::new(number))
}

fn address(bits: u64) -> ClientId {
    ClientId::Address(IpKey::V6Net(bits))
}

/// X11: a cost decays with a time constant of ten seconds, and a client without any leaves the table
#[test]
fn costs_decay() {
    let table = ClientTable::default();
    table.charge(key(1), Priority::Low, 80.0);
    table.charge(key(1), Priority::High, 20.0);
    table.decay(Duration::ZERO);
    assert_eq!(table.cost(key(1), Priority::Low), (80.0, true));
    assert_eq!(table.cost(key(1), Priority::High), (20.0, true));
    (0..40).for_each(|_| table.decay(Duration::from_millis(250)));
    let (cost, _) = table.cost(key(1), Priority::Low);
    assert!((cost - 80.0 / std::f64::consts::E).abs() < 0.1, "{cost}");
    table.decay(Duration::from_secs(120));
    assert_eq!(table.cost(key(1), Priority::Low), (0.0, false));
    assert!(
        table.heaviest(10).is_empty()
            && table.class_costs(1.0)[0] == ClassCosts { weight: 1.0, ..ClassCosts::default() }
    );
}

/// X11: the heaviest clients have their share and rate, whatever kind of client they are
#[test]
fn the_heaviest_clients_are_known() {
    let table = ClientTable::default();
    let clients = [
        (ClientId::Subject(u64::MAX), 400.0),
        (address(u64::MAX), 300.0),
        (ClientId::Address(IpKey::V4(7)), 200.0),
        (key(9), 100.0),
    ];
    for (client, tokens) in clients {
        table.charge(client, Priority::Normal, tokens);
    }
    let heaviest = table.heaviest(3);
    let expected: Vec<_> =
        clients[..3].iter().map(|(client, cost)| (*client, cost / 1000.0, cost / 10.0)).collect();
    assert_eq!(
        heaviest.iter().map(|one| (one.client, one.share, one.per_second)).collect::<Vec<_>>(),
        expected
    );
    table.clear();
    assert!(table.heaviest(3).is_empty());
}

/// X11: many light clients neither grow the table nor push a heavy one out
#[test]
fn light_clients_do_not_push_a_heavy_one_out() {
    let table = ClientTable::default();
    for number in 0..200_000 {
        table.charge(address(number), Priority::Normal, 1.0);
        if number % 20 == 0 {
            table.charge(key(1), Priority::Normal, 1.0);
        }
    }
    let (cost, _) = table.cost(key(1), Priority::Normal);
    assert!(cost > 9_000.0, "{cost}");
    assert_eq!(table.heaviest(1)[0].client, key(1));
    assert!(table.heaviest(usize::MAX).len() <= SLOTS);
}

/// X11, X6: while light clients come and go, a steady client stays in one slot and has its whole cost
#[test]
fn a_steady_client_stays_in_one_slot() {
    const STEADY: u32 = 40;
    const PERIOD: Duration = Duration::from_millis(250);
    let table = ClientTable::default();
    let (mut light, mut expected) = (0..u64::MAX, 0.0);
    for step in 0..600 {
        if step >= 200 {
            for number in 0..STEADY {
                (0..10).for_each(|_| table.charge(key(number), Priority::Normal, 1.0));
            }
            expected += 10.0;
        }
        light.by_ref().take(8).for_each(|number| table.charge(address(number), Priority::Normal, 1.0));
        table.decay(PERIOD);
        expected *= (-PERIOD.as_secs_f64() / DECAY_SECONDS).exp();
        if step < 220 {
            continue;
        }
        let mut steady: Vec<_> = table.heaviest(usize::MAX).into_iter().map(|one| one.client).collect();
        steady.retain(|client| matches!(client, ClientId::Key(_)));
        assert_eq!(steady.len(), STEADY as usize, "step {step}");
        for number in 0..STEADY {
            let (cost, _) = table.cost(key(number), Priority::Normal);
            assert!((cost / expected - 1.0).abs() < 0.01, "step {step}: {cost} of {expected}");
        }
    }
}

/// X11: a client without a key that changes its address with every request can push out key holders only if they are light. Those
/// count as light, so no cut of heavy clients reaches them. A heavy client keeps its slot and stays above its fair share.
#[test]
fn changing_addresses_hide_no_heavy_client() {
    const PERIOD: Duration = Duration::from_millis(250);
    const ADDRESSES: u64 = 5_000;
    let table = ClientTable::default();
    let mut addresses = 0..u64::MAX;
    for _ in 0..200 {
        // A tenth of the traffic in the middle of the addresses, and fifty clients with one request in each period.
        for at in 0..ADDRESSES {
            table.charge(address(addresses.next().unwrap()), Priority::Normal, 1.0);
            if at % 10 == 0 {
                table.charge(key(0), Priority::Normal, 1.0);
            }
            if at % 100 == 0 {
                table.charge(key(1 + u32::try_from(at / 100).unwrap()), Priority::Normal, 1.0);
            }
        }
        table.decay(PERIOD);
    }
    let [_, class, _] = table.class_costs(1.0);
    let (share, above) = fair_share(&class);
    let (heavy, _) = table.cost(key(0), Priority::Normal);
    assert!(heavy > above, "{heavy} of {}: the share is {share}, heavy is above {above}", class.total);
    assert!(heavy > 0.09 * class.total, "{heavy} of {}: its true part is a tenth", class.total);
    for number in 1..=50 {
        let (light, _) = table.cost(key(number), Priority::Normal);
        assert!(light < share, "{number}: {light}, the share is {share}");
    }
}

/// X11: threads that charge at once lose no charge of known clients
#[test]
fn threads_charge_at_once() {
    let table = ClientTable::default();
    table.charge(key(1), Priority::Low, 1.0);
    table.charge(key(2), Priority::Low, 1.0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..10_000).for_each(|at| table.charge(key(1 + at % 2), Priority::Low, 1.0)));
        }
    });
    assert_eq!([1, 2].map(|number| table.cost(key(number), Priority::Low).0), [20_001.0; 2]);
}

proptest! {
    /// X11: a table with room has exactly the charges
    #[test]
    fn the_costs_are_the_charges(charges in prop::collection::vec((0_u32..20, 1_u32..1000), 1..200)) {
        let (table, mut model) = (ClientTable::default(), BTreeMap::<u32, f64>::new());
        for (client, tokens) in charges {
            table.charge(key(client), Priority::Normal, f64::from(tokens));
            *model.entry(client).or_default() += f64::from(tokens);
        }
        for (client, tokens) in &model {
            prop_assert_eq!(table.cost(key(*client), Priority::Normal).0, *tokens);
        }
        let [_, normal, _] = table.class_costs(1.0);
        prop_assert_eq!(normal.costs.len(), model.len());
        prop_assert!((normal.total - model.values().sum::<f64>()).abs() < 1e-6);
    }
}
