//! The order in which requests are cut: the lowest priority class first; within a class the excess of the clients above
//! their fair share, then whole clients by a hash that changes every 30 s.
//!
//! The fair share is the mean cost of the clients, in which a heavier client counts as the mean (three rounds), so that
//! one heavy client does not raise the share. The excess is cut by request, with the probability that leaves the limit.
//! If nearly all of the traffic is excess, the excess is cut in equal ratios over four fifths of the class, so that the
//! cursor does not step over it and cuts the other clients.
//!
//! A client with more than half of all traffic can be many people behind one address: it is thinned by request and never
//! refused completely.

use tidegate_config::Priority;

use crate::shedding::cursor::CLASSES;

/// Rounds in which the fair share is computed.
const SHARE_ROUNDS: usize = 3;
/// The part of a class in which the excess is cut, if the excess is more than this part of the traffic.
const EXCESS_RANGE: f64 = 0.8;
/// What a client with more than half of all traffic keeps at least, and at most this part of its fair share.
const DOMINANT_KEEP_MIN: f64 = 0.02;
const DOMINANT_SHARE_MIN: f64 = 0.05;
/// The smallest probability, so that the weight of an admitted request stays bounded.
const KEEP_MIN: f64 = 1.0 / 1024.0;

/// The position of a class in the order; the lowest class is cut first.
pub(crate) fn position(class: Priority) -> usize {
    match class {
        Priority::Low => 0,
        Priority::Normal => 1,
        Priority::High => 2,
    }
}

/// The part of a class that this cursor cuts.
pub(crate) fn cut_fraction(cursor: f64, position: usize) -> f64 {
    const STARTS: [f64; CLASSES] = [0.0, 1.0, 2.0];
    STARTS.get(position).map_or(0.0, |start| (cursor - start).clamp(0.0, 1.0))
}

/// What is cut from a class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ClassCut {
    /// Clients with a higher cost are thinned to this cost.
    pub(crate) limit: f64,
    /// The part of the clients that is refused, by their hash.
    pub(crate) cohort: f64,
}

impl ClassCut {
    pub(crate) const NONE: Self = Self { limit: f64::INFINITY, cohort: 0.0 };

    /// The cut of a fraction of a class with clients of these costs.
    pub(crate) fn new(fraction: f64, costs: &[f64]) -> Self {
        if fraction <= 0.0 {
            return Self::NONE;
        }
        let total: f64 = costs.iter().sum();
        if total <= 0.0 {
            return Self { cohort: fraction.min(1.0), ..Self::NONE };
        }
        let share = fair_share(costs);
        let excess = costs.iter().map(|cost| (cost - share).max(0.0)).sum::<f64>() / total;
        let range = excess.min(EXCESS_RANGE);
        if fraction > range {
            let cohort = (fraction - range) / (1.0 - range);
            return Self { limit: share, cohort: cohort.min(1.0) };
        }
        let wanted =
            if excess > EXCESS_RANGE { 1.0 - (1.0 - excess).powf(fraction / range) } else { fraction };
        Self { limit: limit_that_cuts(wanted * total, costs).max(share), cohort: 0.0 }
    }
}

/// The mean cost, in which heavier clients count as the mean of the round before.
fn fair_share(costs: &[f64]) -> f64 {
    let count = f64::from(u32::try_from(costs.len()).unwrap_or(u32::MAX)).max(1.0);
    let mean = |most: f64| costs.iter().map(|cost| cost.min(most)).sum::<f64>() / count;
    (0..SHARE_ROUNDS).fold(mean(f64::INFINITY), |share, _| mean(share))
}

/// The limit that cuts this much from all clients above it.
fn limit_that_cuts(wanted: f64, costs: &[f64]) -> f64 {
    let mut heaviest: Vec<f64> = costs.to_vec();
    heaviest.sort_unstable_by(|a, b| b.total_cmp(a));
    let (mut sum, mut count) = (0.0, 0.0);
    for (at, cost) in heaviest.iter().enumerate() {
        (sum, count) = (sum + cost, count + 1.0);
        let limit = (sum - wanted) / count;
        if limit >= heaviest.get(at + 1).copied().unwrap_or(0.0) {
            return limit;
        }
    }
    0.0
}

/// The rule that cuts a client's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutRule {
    /// Nothing is cut.
    None,
    /// The client is above its fair share.
    Excess,
    /// The client's hash is in the part of the clients that is cut.
    Cohort,
    /// The client has more than half of all traffic.
    Dominant,
}

/// A client as the order sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ClientLoad {
    /// Its cost in the class.
    pub(crate) cost: f64,
    /// It has more than half of all traffic.
    pub(crate) is_dominant: bool,
    /// Its hash of the present 30 s, in 0.0..1.0.
    pub(crate) hash: f64,
}

/// The probability that a client's request is admitted, and the rule that lowers it.
pub(crate) fn keep(cut: ClassCut, client: ClientLoad) -> (f64, CutRule) {
    let within = if client.cost > cut.limit { (cut.limit / client.cost).max(KEEP_MIN) } else { 1.0 };
    if client.is_dominant {
        let least = DOMINANT_KEEP_MIN.min(within * DOMINANT_SHARE_MIN).max(KEEP_MIN);
        let keep = (within * (1.0 - cut.cohort)).max(least);
        return if keep < 1.0 { (keep, CutRule::Dominant) } else { (1.0, CutRule::None) };
    }
    if client.hash < cut.cohort {
        return (0.0, CutRule::Cohort);
    }
    if within < 1.0 { (within, CutRule::Excess) } else { (1.0, CutRule::None) }
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
