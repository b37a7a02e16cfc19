//! Which decisions a full ring keeps while one reason floods it (O4).
//!
//! Without sampling, thousands of equal refusals a second would overwrite all others. Up to a rate each decision is kept; beyond it
//! a part that halves each time the rate doubles. The counts are exact in any case.

/// Decisions of one kind, reason, scope and bucket that are kept in a second, on each worker.
const WHOLE_PER_SECOND: u32 = 100;

/// Whether a full ring keeps a decision that is the `number`th of its kind in this second. The first has the number 1.
pub(super) fn is_kept(number: u32) -> bool {
    let rounds = number.saturating_sub(1) / WHOLE_PER_SECOND;
    let stride = (rounds + 1).next_power_of_two();
    number.is_multiple_of(stride)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// O4: the kept part of a flood grows with the logarithm of its rate
    #[test]
    fn a_flood_is_thinned() {
        let kept = |numbers: std::ops::RangeInclusive<u32>| numbers.filter(|number| is_kept(*number)).count();
        assert_eq!(kept(1..=100), 100);
        assert_eq!(kept(101..=200), 50);
        assert_eq!(kept(201..=400), 50);
        assert_eq!(kept(401..=800), 50);
        assert!((500..=1000).contains(&kept(1..=100_000)), "{}", kept(1..=100_000));
        let _ = is_kept(u32::MAX);
    }
}
