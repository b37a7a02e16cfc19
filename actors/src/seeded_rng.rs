//! A random generator with a seed (splitmix64).
//!
//! State machines use it for jitter and random choices, and the simulation for its scenarios. The same seed gives the
//! same numbers on every machine and with every library version, which `SmallRng` of `rand` does not promise. The
//! numbers can be predicted: they must not be used for secrets.

/// A sequence of numbers determined by its seed.
#[derive(Debug)]
pub(crate) struct SeededRng(u64);

impl SeededRng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ bits >> 31
    }

    /// A number from 0 to 1, without 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    pub(crate) fn fraction(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::SeededRng;

    /// The numbers of the reference implementation (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators")
    #[test]
    fn a_seed_gives_the_numbers_of_splitmix64() {
        let mut rng = SeededRng::new(1_234_567);
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!(expected.map(|_| rng.next_u64()), expected);
        assert!((0..1000).all(|_| (0.0..1.0).contains(&rng.fraction())));
    }
}
