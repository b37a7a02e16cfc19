//! The order in which requests are cut: the lowest priority class first; within a class the excess of the clients above
//! their fair share, then most of the share of clients far above it, then whole clients by a hash that changes every 30 s.
//!
//! The excess is cut by request, with the probability that leaves the limit. If nearly all of the traffic is excess, it is
//! cut in equal ratios over four fifths of the class, so that the cursor does not step over it and cuts the other clients.
//! A client that is alone is cut by request too: clients that are not known yet did not cause the overload.
//!
//! A client with more than half of all traffic can be many people behind one address: it is thinned by request and never
//! refused completely.

use tidegate_config::Priority;

use crate::shedding::cursor::CLASSES;
use crate::shedding::fair_share::{ClassCosts, fair_share};

/// The part of a class in which the excess is cut, if the excess is more than this part of the traffic.
const EXCESS_RANGE: f64 = 0.8;
/// Below this part of the traffic the excess does not explain an overload.
const EXCESS_MIN: f64 = 0.25;
/// A client far above its fair share, and the part of the share that it keeps in any case.
const FAR_ABOVE: f64 = 2.0;
const FAR_ABOVE_KEEPS: f64 = 0.1;
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
    /// Clients with a cost above the first are thinned to the second.
    pub(crate) above: (f64, f64),
    /// The same for clients far above their share, which are thinned to less.
    pub(crate) far_above: (f64, f64),
    /// The part of the clients that is refused, by their hash.
    pub(crate) cohort: f64,
}

/// The traffic of a class that is cut before whole clients, as parts of it.
#[derive(Debug, Clone, Copy)]
struct Cuttable {
    share: f64,
    /// A client with more is above the share by more than chance.
    above: f64,
    /// Above the fair share.
    excess: f64,
    /// Of the shares of the clients far above it.
    shares: f64,
}

impl Cuttable {
    fn new(class: &ClassCosts, total: f64) -> Self {
        let (share, above) = fair_share(class);
        let heavy = class.costs.iter().copied().filter(|cost| *cost > above);
        let excess = heavy.clone().map(|cost| cost - share).sum::<f64>() / total;
        let far_above = heavy.filter(|cost| *cost > FAR_ABOVE * share);
        let shares = far_above.map(|_| share * (1.0 - FAR_ABOVE_KEEPS)).sum::<f64>() / total;
        Self { share, above, excess, shares }
    }

    /// The limit of the clients far above the share that leaves this part of it.
    fn far_above(&self, keeps: f64) -> (f64, f64) {
        ((FAR_ABOVE * self.share).max(self.above), keeps * self.share)
    }

    fn all(&self) -> f64 {
        self.excess + self.shares
    }

    /// The part of the cursor's way through the class.
    fn range(&self) -> f64 {
        self.all().min(EXCESS_RANGE)
    }
}

/// The part of a class after which whole clients are cut; none if the excess before is little.
pub(crate) fn excess_end(class: &ClassCosts) -> Option<f64> {
    let total: f64 = class.costs.iter().sum();
    if total <= 0.0 {
        return None;
    }
    let cuttable = Cuttable::new(class, total);
    (cuttable.excess >= EXCESS_MIN).then(|| cuttable.range())
}

impl ClassCut {
    pub(crate) const NONE: Self = Self {
        above: (f64::INFINITY, f64::INFINITY),
        far_above: (f64::INFINITY, f64::INFINITY),
        cohort: 0.0,
    };

    /// All clients are thinned to this limit, except those with less than `above`.
    fn limit(limit: f64, above: f64) -> Self {
        Self { above: (limit.max(above), limit), ..Self::NONE }
    }

    /// The cut of a fraction of a class with clients of these costs.
    pub(crate) fn new(fraction: f64, class: &ClassCosts) -> Self {
        if fraction <= 0.0 {
            return Self::NONE;
        }
        let total: f64 = class.costs.iter().sum();
        if total <= 0.0 {
            return Self { cohort: fraction.min(1.0), ..Self::NONE };
        }
        if class.costs.len() == 1 && fraction < 1.0 {
            return Self::limit((1.0 - fraction).max(DOMINANT_KEEP_MIN) * total, 0.0);
        }
        let cuttable = Cuttable::new(class, total);
        let (Cuttable { share, above, excess, shares }, all) = (cuttable, cuttable.all());
        let range = cuttable.range();
        if fraction > range {
            let cohort = ((fraction - range) / (1.0 - range)).min(1.0);
            let far_above = cuttable.far_above(FAR_ABOVE_KEEPS);
            return Self { far_above, cohort, ..Self::limit(share, above) };
        }
        let wanted = if all > EXCESS_RANGE { 1.0 - (1.0 - all).powf(fraction / range) } else { fraction };
        if wanted <= excess {
            let heavy: Vec<f64> = class.costs.iter().copied().filter(|cost| *cost > above).collect();
            return Self::limit(limit_that_cuts(wanted * total, heavy).max(share), above);
        }
        let keeps = 1.0 - (1.0 - FAR_ABOVE_KEEPS) * (wanted - excess) / shares;
        Self { far_above: cuttable.far_above(keeps), ..Self::limit(share, above) }
    }
}

/// The limit that cuts this much from all clients above it.
fn limit_that_cuts(wanted: f64, mut heaviest: Vec<f64>) -> f64 {
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
    let limited = [cut.far_above, cut.above].into_iter().find(|(above, _)| client.cost > *above);
    let within = limited.map_or(1.0, |(_, limit)| (limit / client.cost).max(KEEP_MIN));
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
