//! Why a circuit opened, an endpoint was ejected or a credential was withdrawn: the rule, the value that it measured, and its threshold.

/// The rule that opened a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TripRule {
    /// Failures in a row.
    ConsecutiveFailures,
    /// The percentage of failures among the last calls.
    FailureRate,
    /// The percentage of slow calls among the last calls.
    SlowCallRate,
    /// A trial of the half-open circuit failed.
    Trial,
}

impl TripRule {
    pub(crate) const ALL: [Self; 4] =
        [Self::ConsecutiveFailures, Self::FailureRate, Self::SlowCallRate, Self::Trial];

    /// The word in the status document.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::FailureRate => "failure_rate",
            Self::SlowCallRate => "slow_call_rate",
            Self::Trial => "trial",
        }
    }

    /// The unit of measured value and threshold.
    pub fn unit(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "failures in a row",
            Self::FailureRate => "% of failed calls",
            Self::SlowCallRate => "% of slow calls",
            Self::Trial => "failed trials",
        }
    }
}

/// Why a circuit opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trip {
    /// The rule.
    pub rule: TripRule,
    /// The value, in the unit of the rule.
    pub measured: u32,
    /// The threshold that it reached, in the same unit.
    pub threshold: u32,
}

/// The rule that ejected an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EjectionRule {
    /// Failures in a row.
    ConsecutiveFailures,
    /// The percentage of failures among the recent calls.
    FailureRate,
    /// The first call after a return failed.
    Probation,
}

impl EjectionRule {
    /// Number of rules.
    pub(crate) const COUNT: usize = 3;
}

/// Why an endpoint was ejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EjectionTrip {
    /// The rule.
    pub rule: EjectionRule,
    /// Failures, or a percentage for the rate.
    pub measured: u32,
    /// The threshold that it reached, in the same unit.
    pub threshold: u32,
}

/// What proves that the upstream refuses a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalProof {
    /// The upstream refused the gateway's own check.
    Check,
    /// The upstream refused requests of different clients over different paths.
    Requests {
        /// The number of clients, which suffices.
        clients: usize,
        /// The number of paths, which suffices.
        paths: usize,
    },
}

/// Bits of a number in the encoding. `failure_threshold` is at most a million.
const NUMBER_BITS: u32 = 30;
const NUMBER_MAX: u32 = (1 << NUMBER_BITS) - 1;

impl Trip {
    /// One failed trial opens a circuit again.
    pub(crate) const FAILED_TRIAL: Self = Self { rule: TripRule::Trial, measured: 1, threshold: 1 };

    /// The number that is published; 0 is none.
    pub(crate) fn encode(trip: Option<Self>) -> u64 {
        let Some(Self { rule, measured, threshold }) = trip else { return 0 };
        let number = TripRule::ALL.iter().position(|each| *each == rule).map_or(0, |at| at as u64 + 1);
        let [measured, threshold] = [measured, threshold].map(|value| u64::from(value.min(NUMBER_MAX)));
        number << (2 * NUMBER_BITS) | measured << NUMBER_BITS | threshold
    }

    /// The reverse of `encode`.
    pub(crate) fn decode(number: u64) -> Option<Self> {
        let at = usize::try_from(number >> (2 * NUMBER_BITS)).ok()?.checked_sub(1)?;
        let value = |shifted: u64| u32::try_from(shifted & u64::from(NUMBER_MAX)).unwrap_or(NUMBER_MAX);
        Some(Self {
            rule: *TripRule::ALL.get(at)?,
            measured: value(number >> NUMBER_BITS),
            threshold: value(number),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// B5: what is published is what was decided
    #[test]
    fn an_encoded_trip_is_decoded() {
        for rule in TripRule::ALL {
            for (measured, threshold) in [(0, 0), (5, 5), (100, 50), (1_000_000, 1_000_000)] {
                let trip = Some(Trip { rule, measured, threshold });
                assert_eq!(Trip::decode(Trip::encode(trip)), trip);
            }
        }
        assert_eq!(Trip::encode(None), 0);
        assert_eq!(Trip::decode(0), None);
        let large = Trip { rule: TripRule::Trial, measured: u32::MAX, threshold: 1 };
        assert_eq!(Trip::decode(Trip::encode(Some(large))), Some(Trip { measured: NUMBER_MAX, ..large }));
    }
}
