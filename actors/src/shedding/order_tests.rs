//! The order of cuts: classes, the excess of heavy clients, whole clients, dominant clients.

use proptest::prelude::*;

use super::*;

const TEN: [f64; 10] = [1.0; 10];

/// A class with exact costs.
fn class(costs: &[f64]) -> ClassCosts {
    ClassCosts { costs: costs.to_vec(), total: costs.iter().sum(), weight: 0.0 }
}

fn load(cost: f64, hash: f64) -> ClientLoad {
    ClientLoad { cost, is_dominant: false, hash }
}

/// The part of all traffic that a cut admits.
fn admitted(cut: ClassCut, costs: &[f64]) -> Vec<f64> {
    let spread = |at: usize| (at as f64 + 0.5) / costs.len() as f64;
    let each = costs.iter().enumerate();
    each.map(|(at, cost)| cost * keep(cut, load(*cost, spread(at))).0).collect()
}

/// X11: a cursor cuts the lowest class first
#[test]
fn the_lowest_class_is_cut_first() {
    let cut = |cursor| [0, 1, 2].map(|position| cut_fraction(cursor, position));
    assert_eq!(cut(0.0), [0.0, 0.0, 0.0]);
    let [low, normal, high] = cut(1.4);
    assert!((low - 1.0).abs() < 1e-9 && (normal - 0.4).abs() < 1e-9 && high.abs() < 1e-9);
    assert!(cut(2.95)[2] < 0.96);
    assert_eq!([Priority::Low, Priority::Normal, Priority::High].map(position), [0, 1, 2]);
}

/// X11: a client with 20 times its share loses its excess, and the others lose nothing of theirs
#[test]
fn a_heavy_client_costs_the_others_nothing() {
    let costs: Vec<f64> = std::iter::once(20.0).chain([1.0; 20]).collect();
    for capacity in [21.0, 22.0, 30.0, 39.0] {
        let cut = ClassCut::new(1.0 - capacity / 40.0, &class(&costs));
        let kept = admitted(cut, &costs);
        let others: f64 = kept[1..].iter().sum();
        assert!(others > 20.0 - 1e-9, "{capacity}: {others}");
        assert!((kept.iter().sum::<f64>() - capacity).abs() < 0.2, "{capacity}: {kept:?}");
    }
}

/// X11: even if nearly all traffic is one client's, four fifths of the class cut it before the others
#[test]
fn a_flood_of_one_client_does_not_hide_the_others() {
    let costs: Vec<f64> = std::iter::once(10_000.0).chain([1.0; 20]).collect();
    for percent in 1..=80 {
        let kept = admitted(ClassCut::new(f64::from(percent) / 100.0, &class(&costs)), &costs);
        assert!(kept[1..].iter().sum::<f64>() > 19.8, "{percent} %: {kept:?}");
    }
    let cut = ClassCut::new(0.8, &class(&costs));
    assert!(cut.above.1 < 200.0 && cut.cohort < 1e-9, "{cut:?}");
    assert!(ClassCut::new(0.9, &class(&costs)).cohort > 0.4);
}

/// X11: before whole clients are cut, a client far above its share keeps a tenth of it, and the cursor can stop there
#[test]
fn a_heavy_client_goes_before_whole_clients() {
    let costs = class(&[20.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
    let end = excess_end(&costs).unwrap();
    assert!((0.75..=0.8).contains(&end), "{end}");
    let kept = |fraction| keep(ClassCut::new(fraction, &costs), load(20.0, 1.0)).0 * 20.0;
    assert!((kept(end) - 0.1).abs() < 0.05 && kept(end / 2.0) > 1.0, "{} {}", kept(end), kept(end / 2.0));
    assert!(kept(0.99) > 0.05, "{}", kept(0.99));
    let light = keep(ClassCut::new(end, &costs), load(1.0, 0.0));
    assert_eq!(light, (1.0, CutRule::None));
    assert!(excess_end(&class(&TEN)).is_none() && excess_end(&class(&[])).is_none());
}

/// X11: while one client is known, its requests are cut and not clients that are not known yet
#[test]
fn an_unknown_client_is_not_cut_before_the_only_known_one() {
    let cut = ClassCut::new(0.9, &class(&[5.0]));
    assert_eq!(keep(cut, load(0.0, 0.0)), (1.0, CutRule::None));
    assert!((keep(cut, load(5.0, 0.0)).0 - 0.1).abs() < 1e-9);
}

/// X11: clients with equal cost are refused whole
#[test]
fn equal_clients_are_refused_whole() {
    let cut = ClassCut::new(0.4, &class(&TEN));
    let kept = admitted(cut, &TEN);
    assert_eq!(kept.iter().filter(|kept| **kept == 0.0).count(), 4, "{kept:?}");
    assert_eq!(kept.iter().filter(|kept| **kept == 1.0).count(), 6, "{kept:?}");
}

/// X11: a client with more than half of all traffic is thinned by request and never shut out
#[test]
fn a_dominant_client_is_never_shut_out() {
    let all = ClientLoad { cost: 5.0, is_dominant: true, hash: 0.0 };
    let (kept, rule) = keep(ClassCut::new(0.4, &class(&[5.0])), all);
    assert!((kept - 0.6).abs() < 1e-9 && rule == CutRule::Dominant);
    assert_eq!(keep(ClassCut::new(1.0, &class(&[5.0])), all), (DOMINANT_KEEP_MIN, CutRule::Dominant));
    let flood = ClientLoad { cost: 10_000.0, ..all };
    let (kept, rule) = keep(ClassCut::new(1.0, &class(&[10_000.0, 1.0, 1.0])), flood);
    assert!((KEEP_MIN..DOMINANT_KEEP_MIN + 1e-9).contains(&kept) && rule == CutRule::Dominant, "{kept}");
    assert_eq!(keep(ClassCut::new(1.0, &class(&[5.0])), load(1.0, 0.5)), (0.0, CutRule::Cohort));
    assert_eq!(keep(ClassCut::new(0.5, &class(&[])), load(0.0, 0.6)), (1.0, CutRule::None));
}

proptest! {
    /// X11: a cut leaves the part of the traffic that it should, whatever the costs are
    #[test]
    fn the_excess_is_cut_exactly(costs in prop::collection::vec(0.1..100.0_f64, 1..100), fraction in 0.0..0.99_f64) {
        let cut = ClassCut::new(fraction, &class(&costs));
        let total: f64 = costs.iter().sum();
        // A hash of 1 is never in the part that is cut.
        let by_limit: f64 = costs.iter().map(|cost| cost * keep(cut, load(*cost, 1.0)).0).sum();
        let kept = by_limit * (1.0 - cut.cohort);
        let Cuttable { share, .. } = Cuttable::new(&class(&costs), total);
        let is_exact = Cuttable::new(&class(&costs), total).all() <= EXCESS_RANGE && costs.len() > 1;
        prop_assert!(!is_exact || (kept - (1.0 - fraction) * total).abs() < 0.02 * total, "{cut:?}");
        prop_assert!(cut.cohort <= 0.0 || (cut.above.1 - share).abs() < 1e-9, "the excess goes first");
        let untouched = costs.iter().filter(|cost| **cost <= share).all(|cost| keep(cut, load(*cost, 1.0)).0 >= 1.0);
        prop_assert!(untouched || costs.len() == 1, "a client below its share is thinned");
    }

    /// X11: at a fixed time and table a higher cursor refuses every request that a lower one refuses
    #[test]
    fn a_higher_cursor_refuses_a_superset(
        costs in prop::collection::vec(0.1..100.0_f64, 1..50),
        cursors in (0.0..2.95_f64, 0.0..2.95_f64),
        request in (0..50_usize, 0.0..1.0_f64, 0.0..1.0_f64, any::<bool>()),
    ) {
        let (client, hash, draw, is_dominant) = request;
        let load = ClientLoad { cost: costs[client % costs.len()], is_dominant, hash };
        let (lower, higher) = (cursors.0.min(cursors.1), cursors.0.max(cursors.1));
        for position in 0..3 {
            let keep_at = |cursor| keep(ClassCut::new(cut_fraction(cursor, position), &class(&costs)), load).0;
            prop_assert!(draw < keep_at(lower) || draw >= keep_at(higher), "{lower} {higher}");
        }
    }
}
