//! Compares the refusals that clients received with the decisions that the gateway logged.
//!
//! The load generator records each refusal by its own means: status, reason and request ID of the answer. The gateway writes each
//! decision as a log line. For each received refusal there must be one decision with the same ID, status and reason. A decision without
//! a received refusal needs a request without an answer: its client had ended it, or its connection broke.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;

use serde::Deserialize;

use crate::recorder::ReceivedRefusal;
use crate::statistics::Statistics;

/// The refusals of one step.
#[derive(Debug, Default)]
struct StepRefusals {
    refusals: Vec<ReceivedRefusal>,
    unanswered: u64,
}

/// The refusals of a run.
#[derive(Debug, Default)]
pub(crate) struct DecisionCheck(BTreeMap<String, StepRefusals>);

/// A line of the gateway's log.
#[derive(Deserialize)]
struct Line {
    msg: String,
    kind: Option<String>,
    id: Option<String>,
    reason: Option<String>,
    status: Option<u16>,
}

/// A refusal in the gateway's log.
#[derive(Debug, PartialEq, Eq)]
struct Decision {
    reason: Box<str>,
    status: Option<u16>,
}

/// What a comparison found.
#[derive(Debug, Default, PartialEq, Eq)]
struct Differences {
    without_decision: u64,
    other_reason: u64,
    other_status: u64,
    twice: u64,
}

impl DecisionCheck {
    /// Adds the refusals of a step, and its requests without an answer.
    pub(crate) fn add_step(&mut self, step: &str, refusals: Vec<ReceivedRefusal>, unanswered: u64) {
        let of_step = self.0.entry(step.to_owned()).or_default();
        of_step.refusals.extend(refusals);
        of_step.unanswered += unanswered;
    }

    /// Writes the differences of each step as `STEP.decisions.…`. The decisions without a received refusal are those of the run.
    pub(crate) fn compare(&self, log: &Path, into: &mut Statistics) -> io::Result<()> {
        let mut decisions = read_decisions(BufReader::new(File::open(log)?))?;
        let logged: u64 = decisions.values().map(|of_request| of_request.len() as u64).sum();
        let mut received = 0;
        for (step, of_step) in &self.0 {
            let found = differences(&of_step.refusals, &mut decisions);
            received += of_step.refusals.len() as u64;
            let counts = [
                ("refusals", of_step.refusals.len() as u64),
                ("without_decision", found.without_decision),
                ("other_reason", found.other_reason),
                ("other_status", found.other_status),
                ("twice", found.twice),
            ];
            for (name, count) in counts {
                into.set(format!("{step}.decisions.{name}"), count as f64);
            }
        }
        let unanswered: u64 = self.0.values().map(|of_step| of_step.unanswered).sum();
        let unreceived: u64 = decisions.values().map(|of_request| of_request.len() as u64).sum();
        for step in self.0.keys() {
            into.set(format!("{step}.decisions.logged"), logged as f64);
            into.set(format!("{step}.decisions.unreceived"), unreceived as f64);
            into.set(format!("{step}.decisions.unexplained"), unreceived.saturating_sub(unanswered) as f64);
            into.set(format!("{step}.decisions.received"), received as f64);
        }
        Ok(())
    }
}

/// The refusals in a log, by request ID.
fn read_decisions(log: impl io::BufRead) -> io::Result<HashMap<String, Vec<Decision>>> {
    let mut decisions: HashMap<String, Vec<Decision>> = HashMap::new();
    for line in log.lines() {
        // A line that is cut off is none: the comparison finds its refusal without a decision.
        let Ok(line) = serde_json::from_str::<Line>(&line?) else { continue };
        let is_refusal = line.msg == "decision" && line.kind.as_deref() == Some("refusal");
        if let (true, Some(id), Some(reason)) = (is_refusal, line.id, line.reason) {
            let decision = Decision { reason: reason.into(), status: line.status };
            decisions.entry(id).or_default().push(decision);
        }
    }
    Ok(decisions)
}

/// Compares the refusals with their decisions, and removes those.
fn differences(refusals: &[ReceivedRefusal], decisions: &mut HashMap<String, Vec<Decision>>) -> Differences {
    let mut found = Differences::default();
    for ReceivedRefusal { status, head } in refusals {
        let Some(of_request) = decisions.remove(&*head.request_id) else {
            found.without_decision += 1;
            continue;
        };
        found.twice += u64::from(of_request.len() > 1);
        found.other_reason += u64::from(of_request.iter().all(|decision| decision.reason != head.reason));
        found.other_status += u64::from(of_request.iter().all(|decision| decision.status != Some(*status)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::RefusalHead;

    fn refusal(id: &str, status: u16, reason: &str) -> ReceivedRefusal {
        ReceivedRefusal { status, head: RefusalHead { reason: reason.into(), request_id: id.into() } }
    }

    const LOG: &str = r#"{"msg":"request","id":"a","status":503,"reason":"exhausted"}
{"msg":"decision","kind":"refusal","id":"a","reason":"exhausted","status":503}
{"msg":"decision","kind":"refusal","id":"b","reason":"breaker_open","status":503}
{"msg":"decision","kind":"retry","id":"c","reason":"status","status":503}
{"msg":"decision","kind":"refusal","id":"d","reason":"queue_full","status":503}
{"msg":"decision","kind":"refusal","id":"d","reason":"queue_full","status":503}
{"msg":"decision","kind":"refusal","id":"e","reason":"timeout_total","status":504}
{"msg":"decision","kind":"refus"#;

    #[test]
    fn each_difference_is_counted() {
        let mut decisions = read_decisions(LOG.as_bytes()).unwrap();
        let refusals = [
            refusal("a", 503, "exhausted"),
            refusal("b", 429, "breaker_half_open"),
            refusal("c", 503, "status"),
            refusal("d", 503, "queue_full"),
        ];
        let expected = Differences { without_decision: 1, other_reason: 1, other_status: 1, twice: 1 };
        assert_eq!(differences(&refusals, &mut decisions), expected);
        assert_eq!(decisions.into_keys().collect::<Vec<_>>(), ["e"]);
    }

    #[test]
    fn decisions_without_an_answer_need_a_request_without_one() {
        let directory = crate::process::RunDirectory::create("decisions").unwrap();
        let log = directory.path().join("access.log");
        std::fs::write(&log, LOG).unwrap();
        for (unanswered, unexplained) in [(0, 3.0), (2, 1.0), (3, 0.0), (9, 0.0)] {
            let (mut check, mut statistics) = (DecisionCheck::default(), Statistics::default());
            check.add_step(
                "s",
                vec![refusal("a", 503, "exhausted"), refusal("b", 503, "breaker_open")],
                unanswered,
            );
            check.compare(&log, &mut statistics).unwrap();
            let value = |name: &str| statistics.value(&format!("s.decisions.{name}"));
            assert_eq!((value("refusals"), value("without_decision")), (Some(2.0), Some(0.0)));
            assert_eq!((value("logged"), value("unreceived")), (Some(5.0), Some(3.0)));
            assert_eq!(value("unexplained"), Some(unexplained), "{unanswered}");
        }
        directory.discard();
    }
}
