//! A quantile of the observations that a histogram has got since the last point.

/// The quantile in nanoseconds, interpolated within its bucket as Prometheus' `histogram_quantile` does; none without observations.
/// Observations above the last bound count as that bound.
pub(super) fn quantile(share: f64, counts: &[u64], bounds: &[u64]) -> Option<f64> {
    let total: u64 = counts.iter().sum();
    let rank = share * total as f64;
    let (mut below, mut lower) = (0, 0);
    for (count, bound) in counts.iter().zip(bounds) {
        if *count > 0 && (below + count) as f64 >= rank {
            let part = ((rank - below as f64) / *count as f64).clamp(0.0, 1.0);
            return Some(lower as f64 + (bound - lower) as f64 * part);
        }
        below += count;
        lower = *bound;
    }
    (total > 0).then_some(lower as f64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: [u64; 3] = [10, 20, 40];

    /// O3
    #[test]
    fn a_quantile_lies_in_its_bucket() {
        assert_eq!(quantile(0.5, &[0, 0, 0, 0], &BOUNDS), None);
        assert_eq!(quantile(0.5, &[10, 0, 0, 0], &BOUNDS), Some(5.0));
        assert_eq!(quantile(0.99, &[0, 100, 0, 0], &BOUNDS), Some(19.9));
        assert_eq!(quantile(0.5, &[1, 0, 9, 0], &BOUNDS), Some(20.0 + 20.0 * 4.0 / 9.0));
        assert_eq!(quantile(0.99, &[0, 0, 0, 5], &BOUNDS), Some(40.0), "above the last bound");
    }

    proptest! {
        /// O3: quantiles rise with their share and stay within the bounds
        #[test]
        fn quantiles_are_ordered(counts in proptest::collection::vec(0_u64..1000, 4)) {
            let found: Vec<_> =
                [0.5, 0.95, 0.99].iter().filter_map(|share| quantile(*share, &counts, &BOUNDS)).collect();
            prop_assert_eq!(found.is_empty(), counts.iter().sum::<u64>() == 0);
            prop_assert!(found.is_sorted() && found.iter().all(|value| (0.0..=40.0).contains(value)), "{:?}", found);
        }
    }
}
