//! Which endpoints of a bucket serve: the primary ones, or the standby ones after them in the list.
//!
//! The load balancer and its views decide by the same function. A view decides for the next request, which may come later.

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::pool::load_balancer::settings::LoadBalancerSettings;

/// When the tier changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TierRules {
    /// Number of primary endpoints, the first ones of the list.
    primary: usize,
    count: usize,
    min_usable_percent: usize,
    return_after: Duration,
}

/// The tier that serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tier {
    Primary,
    Standby {
        /// Start of the period in which enough primary endpoints are usable.
        enough_since: Option<Instant>,
    },
}

/// Why the tier changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TierChange {
    /// Too few primary endpoints are usable.
    FailedOver { usable_percent: usize, min_usable_percent: usize },
    /// Enough primary endpoints have been usable for long enough.
    Returned { usable_for: Duration, return_after: Duration },
    /// No standby endpoint is usable.
    StandbyFailed,
}

/// The endpoints that serve, in the status page and in explanations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServingView {
    /// Their positions in the configuration.
    pub endpoints: Range<usize>,
    /// Whether all endpoints of the bucket are called, because all failed.
    pub is_panicking: bool,
    /// Set while the standby endpoints serve.
    pub failover: Option<FailoverView>,
}

/// A failover to the standby endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailoverView {
    /// Percentage of primary endpoints that are usable.
    pub usable_percent: usize,
    /// The percentage below which the standby endpoints serve.
    pub min_usable_percent: usize,
    /// How long enough primary endpoints must be usable before requests return to them.
    pub return_after: Duration,
    /// When requests return; none while too few primary endpoints are usable, and before the first request after that.
    pub returns_at: Option<Instant>,
}

impl TierRules {
    pub(crate) fn new(rules: &LoadBalancerSettings, count: usize) -> Self {
        let LoadBalancerSettings { standby, min_usable_percent, return_after, .. } = rules;
        let primary = count - (*standby).min(count.saturating_sub(1));
        Self { primary, count, min_usable_percent: *min_usable_percent, return_after: *return_after }
    }

    pub(crate) fn has_standby(&self) -> bool {
        self.primary < self.count
    }

    fn usable(range: Range<usize>, is_usable: impl Fn(usize) -> bool) -> usize {
        range.filter(|i| is_usable(*i)).count()
    }

    /// The endpoints of a tier.
    pub(crate) fn endpoints(&self, tier: Tier) -> Range<usize> {
        match tier {
            Tier::Primary => 0..self.primary,
            Tier::Standby { .. } => self.primary..self.count,
        }
    }

    /// The tier of a request at `now`, and why it is another than before.
    pub(crate) fn next(
        &self,
        tier: Tier,
        is_usable: impl Fn(usize) -> bool,
        now: Instant,
    ) -> (Tier, Option<TierChange>) {
        let usable = Self::usable(0..self.primary, &is_usable);
        let is_enough = usable * 100 >= self.min_usable_percent * self.primary;
        let has_usable_standby = (self.primary..self.count).any(&is_usable);
        let Tier::Standby { enough_since } = tier else {
            if is_enough || !has_usable_standby {
                return (Tier::Primary, None);
            }
            let (usable_percent, min_usable_percent) =
                (usable * 100 / self.primary.max(1), self.min_usable_percent);
            let change = TierChange::FailedOver { usable_percent, min_usable_percent };
            return (Tier::Standby { enough_since: None }, Some(change));
        };
        let enough_since = if is_enough { enough_since.or(Some(now)) } else { None };
        let usable_for = enough_since.map(|since| now.saturating_duration_since(since));
        match usable_for {
            Some(usable_for) if usable_for >= self.return_after => {
                let return_after = self.return_after;
                (Tier::Primary, Some(TierChange::Returned { usable_for, return_after }))
            }
            _ if !has_usable_standby && usable > 0 => (Tier::Primary, Some(TierChange::StandbyFailed)),
            _ => (Tier::Standby { enough_since }, None),
        }
    }

    /// The tier of the next request, if it came at `now`.
    pub(crate) fn view(
        &self,
        tier: Tier,
        is_panicking: bool,
        is_usable: impl Fn(usize) -> bool,
        now: Instant,
    ) -> ServingView {
        let (next, _) = self.next(tier, &is_usable, now);
        let failover = match (tier, next) {
            (_, Tier::Primary) => None,
            // A period that only this view began has no end yet.
            (Tier::Primary, Tier::Standby { .. }) => Some(None),
            (Tier::Standby { enough_since: before }, Tier::Standby { enough_since }) => {
                Some(enough_since.and(before).map(|since| since + self.return_after))
            }
        };
        let failover = failover.map(|returns_at| FailoverView {
            usable_percent: Self::usable(0..self.primary, &is_usable) * 100 / self.primary.max(1),
            min_usable_percent: self.min_usable_percent,
            return_after: self.return_after,
            returns_at,
        });
        ServingView { endpoints: self.endpoints(next), is_panicking, failover }
    }
}
