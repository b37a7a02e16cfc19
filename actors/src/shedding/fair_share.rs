//! The fair share of the clients of a class.
//!
//! It is the mean cost of the clients, in which a heavier client counts as the mean (six rounds), so that one heavy client
//! does not raise it. A cost is a count of few requests at first, so a client is above its share only beyond chance.
//!
//! A client that changes its address looks like many light clients, which lower the mean: a steady client would seem heavy.
//! With many clients the share is therefore raised, up to a sixteenth of the traffic: a client with less did not cause an
//! overload.

/// Rounds in which the mean is computed.
const ROUNDS: usize = 6;
/// Standard deviations of a count.
const DEVIATIONS: f64 = 2.0;
/// The part of the traffic that is never above the fair share, at most, and with one client.
const PART_MAX: f64 = 1.0 / 16.0;
const PART_OF_CLIENT: f64 = 1.0 / 4_096.0;

/// The costs of the clients of a class, in tokens.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ClassCosts {
    /// Of the known clients.
    pub(crate) costs: Vec<f64>,
    /// Of all.
    pub(crate) total: f64,
    /// The requests that one charge stands for.
    pub(crate) weight: f64,
}

/// The fair share, and the cost beyond which a client is above it by more than chance.
pub(crate) fn fair_share(class: &ClassCosts) -> (f64, f64) {
    let costs = &class.costs;
    let count = f64::from(u32::try_from(costs.len()).unwrap_or(u32::MAX)).max(1.0);
    let mean = |most: f64| costs.iter().map(|cost| cost.min(most)).sum::<f64>() / count;
    let mean = (0..ROUNDS).fold(mean(f64::INFINITY), |share, _| mean(share));
    let share = mean.max(class.total * (count * PART_OF_CLIENT).min(PART_MAX));
    (share, share + DEVIATIONS * (class.weight * share).sqrt() + class.weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(costs: Vec<f64>) -> ClassCosts {
        ClassCosts { total: costs.iter().sum(), costs, weight: 0.0 }
    }

    fn crowd(heavy: &[f64], light: f64, count: usize) -> ClassCosts {
        class(heavy.iter().copied().chain(std::iter::repeat_n(light, count)).collect())
    }

    /// X11: a heavy client hardly raises the share of the others
    #[test]
    fn a_heavy_client_hardly_raises_the_share() {
        for (heavy, count) in [(20.0, 4), (20.0, 20), (400.0, 20), (20.0, 60)] {
            let (share, _) = fair_share(&crowd(&[heavy], 1.0, count));
            assert!((1.0..2.2).contains(&share), "{heavy} {count}: {share}");
        }
    }

    /// X11: after few requests a client with two more than the mean is not heavy; after many chance is little
    #[test]
    fn chance_is_allowed_for() {
        let above = |mean| fair_share(&ClassCosts { weight: 1.0, ..crowd(&[], mean, 20) }).1;
        assert!((above(2.0) - 5.8).abs() < 0.1 && above(200.0) < 232.0, "{} {}", above(2.0), above(200.0));
    }

    /// X11, X6: an attacker that changes its address with each request does not make steady clients look heavy, even if the
    /// table has room for a part of the addresses only
    #[test]
    fn changing_addresses_do_not_lower_the_share() {
        for (known, total) in [(1_020, 4_800.0), (1_020, 40_000.0)] {
            let class = ClassCosts { total, ..crowd(&[200.0; 4], 1.0, known) };
            let (share, _) = fair_share(&class);
            assert!(share >= 200.0, "{known} of {total}: {share}");
        }
    }
}
