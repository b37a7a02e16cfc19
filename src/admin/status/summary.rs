//! The sentence at the head of the status document.

use crate::degradation::cause::Cause;
use crate::degradation::codes::Severity;

/// How many causes there are, and the worst of them. `causes` has the worst first.
pub(super) fn sentence(causes: &[Cause]) -> String {
    let Some(worst) = causes.first() else {
        return "No cause of degradation is present.".to_owned();
    };
    let critical = causes.iter().filter(|cause| cause.severity == Severity::Critical).count();
    let number = |count: usize, what: &str| match count {
        1 => format!("1 {what} cause"),
        count => format!("{count} {what} causes"),
    };
    let counts = match (critical, causes.len() - critical) {
        (0, others) => number(others, "degrading"),
        (critical, 0) => number(critical, "critical"),
        (critical, others) => format!("{} and {}", number(critical, "critical"), number(others, "degrading")),
    };
    format!("{counts}. The worst is {}: {}.", worst.code.as_str(), worst.message.trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use tidegate_actors::clock;

    use super::*;
    use crate::degradation::cause::Moment;
    use crate::degradation::codes::CauseCode;
    use crate::degradation::counts::Touched;
    use crate::degradation::finding::{Finding, Scope};

    /// X10: the sentence has the number of causes and the worst one
    #[test]
    fn the_sentence_names_the_worst_cause() {
        let at = Moment { now: clock::now(), wall: SystemTime::UNIX_EPOCH };
        let sentence_of = |codes: &[CauseCode]| {
            let finding = |code: &CauseCode| Finding::new(*code, Scope::process(), "it is so");
            let causes: Vec<_> = codes
                .iter()
                .map(|code| Cause::new(&finding(code), (at.now, at.wall), Touched::default(), at))
                .collect();
            sentence(&causes)
        };
        assert_eq!(sentence_of(&[]), "No cause of degradation is present.");
        assert_eq!(sentence_of(&[CauseCode::Log]), "1 degrading cause. The worst is log: it is so.");
        let codes = [CauseCode::Draining, CauseCode::Log, CauseCode::Chaos];
        let expected = "1 critical cause and 2 degrading causes. The worst is draining: it is so.";
        assert_eq!(sentence_of(&codes), expected);
    }
}
