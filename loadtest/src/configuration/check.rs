//! Compares each answer with the configurations that can have been current while its request was under way (G3).
//!
//! A scenario describes the answer of the configuration with the number of the request (`own`), and that of all others (`others`). Both
//! describe every decision about the request: status, reason, and headers that show the key, the store, the credential and the headers of
//! the bucket. So an answer has one of two faults if no current configuration gives it. It is *stale* if another configuration of the run
//! gives it, and a *mixture* if none does. A refusal for lack of resources (429, 503) is neither: it does not depend on a configuration's
//! keys and rights.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Deserialize;

use super::{Placeholders, SharedTimeline};
use crate::statistics::Statistics;

/// Maximum of faults that are described.
const EXAMPLES_MAX: usize = 10;

/// The expected answers of a load.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JudgedSpec {
    /// Difference between the number in the request and the newest installed configuration.
    #[serde(default)]
    pub(crate) ahead: i64,
    /// The answer of the configuration with the number of the request.
    own: ExpectedAnswer,
    /// The answer of all other configurations; the same if absent.
    others: Option<ExpectedAnswer>,
}

/// An expected answer. Its texts have the number of the configuration that gives it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedAnswer {
    status: u16,
    /// `x-tidegate-reason`; none for an answer without one.
    #[serde(default)]
    reason: String,
    /// Headers of the answer.
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

impl JudgedSpec {
    /// The headers of answers that are compared.
    pub(crate) fn header_names(&self) -> Vec<String> {
        let answers = std::iter::once(&self.own).chain(&self.others);
        let mut names: Vec<_> = answers.flat_map(|answer| answer.headers.keys().cloned()).collect();
        names.sort();
        names.dedup();
        names
    }
}

/// An answer as its client received it.
#[derive(Debug, Clone)]
pub(crate) struct SeenAnswer {
    /// The number of the configuration in the request.
    pub(crate) presented: u64,
    /// Before the connect.
    pub(crate) sent: Instant,
    /// After the last byte.
    pub(crate) ended: Instant,
    pub(crate) status: u16,
    pub(crate) reason: Box<str>,
    /// The values of `header_names`, in their order; empty for an absent header.
    pub(crate) headers: Vec<Box<str>>,
}

/// Counts of a judged load.
pub(crate) struct ConfigurationCheck {
    spec: JudgedSpec,
    names: Vec<String>,
    placeholders: Placeholders,
    timeline: SharedTimeline,
    judged: u64,
    by_own: u64,
    by_others: u64,
    /// Answers at a time when more than one configuration can have been current.
    ambiguous_times: u64,
    mixtures: u64,
    stale: u64,
    /// Refusals with 429 or 503.
    unjudged: u64,
    examples: Vec<String>,
}

impl ConfigurationCheck {
    pub(crate) fn new(spec: JudgedSpec, placeholders: Placeholders, timeline: SharedTimeline) -> Self {
        let names = spec.header_names();
        Self {
            spec,
            names,
            placeholders,
            timeline,
            judged: 0,
            by_own: 0,
            by_others: 0,
            ambiguous_times: 0,
            mixtures: 0,
            stale: 0,
            unjudged: 0,
            examples: Vec::new(),
        }
    }

    /// Counts an answer. Returns whether a current configuration gives it.
    pub(crate) fn judge(&mut self, seen: &SeenAnswer) -> bool {
        if matches!(seen.status, 429 | 503) {
            self.unjudged += 1;
            return false;
        }
        let current = self.timeline.borrow().between(seen.sent, seen.ended);
        self.judged += 1;
        self.ambiguous_times += u64::from(current.start() < current.end());
        // The newest first: nearly every answer is from it.
        if let Some(number) = current.clone().rev().find(|number| self.gives(*number, seen)) {
            if number == seen.presented {
                self.by_own += 1;
            } else {
                self.by_others += 1;
            }
            return true;
        }
        let newest = self.timeline.borrow().newest();
        let other = (1..=newest + 1).find(|number| self.gives(*number, seen));
        match other {
            Some(_) => self.stale += 1,
            None => self.mixtures += 1,
        }
        if self.examples.len() < EXAMPLES_MAX {
            let given = other.map_or_else(|| "no configuration".to_owned(), |number| number.to_string());
            self.examples.push(format!(
                "{}: presented {}, current {current:?}, given by {given}: status {}, reason {:?}, {:?} = {:?}",
                if other.is_some() { "stale" } else { "mixture" },
                seen.presented,
                seen.status,
                seen.reason,
                self.names,
                seen.headers
            ));
        }
        false
    }

    /// Whether the configuration with this number gives this answer.
    fn gives(&self, number: u64, seen: &SeenAnswer) -> bool {
        let is_own = number == seen.presented;
        let expected = self.spec.others.as_ref().filter(|_| !is_own).unwrap_or(&self.spec.own);
        let mut values = self.names.iter().map(|name| {
            let template = expected.headers.get(name).map_or("", String::as_str);
            self.placeholders.fill(template, number)
        });
        expected.status == seen.status
            && *expected.reason == *seen.reason
            && seen.headers.iter().all(|seen| values.next().is_some_and(|value| *value == **seen))
    }

    /// Descriptions of the first faults.
    pub(crate) fn examples(&self) -> &[String] {
        &self.examples
    }

    /// Writes the counts as `PREFIX.judged…`.
    pub(crate) fn summarize(&self, prefix: &str, into: &mut Statistics) {
        let counts = [
            ("judged", self.judged),
            ("judged_by_own", self.by_own),
            ("judged_by_others", self.by_others),
            ("judged_during_change", self.ambiguous_times),
            ("mixtures", self.mixtures),
            ("stale", self.stale),
            ("unjudged", self.unjudged),
        ];
        for (name, count) in counts {
            into.set(format!("{prefix}.{name}"), count as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::time::Duration;

    use super::super::Timeline;
    use super::*;
    use crate::clock;

    const SPEC: &str = "own = { status = 200, headers = { x-key = 'k-{n}', x-store = 's-{n}' } }\n\
                        others = { status = 403, reason = 'unknown_key' }\n";

    /// Configurations 1 to 3: requested at 10 and 30 ms, installed at 20 and 40 ms.
    fn check(spec: &str) -> (ConfigurationCheck, Instant) {
        let start = clock::now();
        let mut timeline = Timeline::new(start);
        for ms in [10, 30] {
            timeline.request(start + Duration::from_millis(ms));
            timeline.install(start + Duration::from_millis(ms + 10));
        }
        let timeline = Rc::new(RefCell::new(timeline));
        (ConfigurationCheck::new(toml::from_str(spec).unwrap(), Placeholders::default(), timeline), start)
    }

    fn seen(start: Instant, presented: u64, at: (u64, u64), answer: (u16, &str, [&str; 2])) -> SeenAnswer {
        let (status, reason, headers) = answer;
        SeenAnswer {
            presented,
            sent: start + Duration::from_millis(at.0),
            ended: start + Duration::from_millis(at.1),
            status,
            reason: reason.into(),
            headers: headers.map(Into::into).into(),
        }
    }

    /// G3: an invented mixture is found in each of its forms, and so is an answer of a configuration of another time
    #[test]
    fn mixtures_and_stale_answers_are_found() {
        let ok = |key, store| (200, "", [key, store]);
        let unknown = (403, "unknown_key", ["", ""]);
        let cases = [
            // Each configuration that can be current may give its answer.
            (1, (0, 9), ok("k-1", "s-1"), "own"),
            (1, (11, 12), ok("k-1", "s-1"), "own"),
            (1, (11, 12), unknown, "others"),
            (2, (11, 12), ok("k-2", "s-2"), "own"),
            (2, (11, 12), unknown, "others"),
            (3, (5, 35), ok("k-3", "s-3"), "own"),
            (1, (21, 29), unknown, "others"),
            // An answer of another time.
            (1, (21, 29), ok("k-1", "s-1"), "stale"),
            (3, (21, 29), ok("k-3", "s-3"), "stale"),
            (2, (21, 29), unknown, "stale"),
            (1, (11, 12), (503, "pool_unavailable", ["", ""]), "unjudged"),
            // Parts of two configurations.
            (2, (11, 12), ok("k-1", "s-2"), "mixture"),
            (2, (11, 12), ok("k-2", "s-1"), "mixture"),
            (1, (11, 12), ok("k-2", "s-2"), "mixture"),
            (2, (11, 12), (403, "policy_denied", ["", ""]), "mixture"),
            (2, (11, 12), (200, "", ["k-2", ""]), "mixture"),
            (2, (11, 12), (404, "", ["", ""]), "mixture"),
        ];
        for (presented, at, answer, expected) in cases {
            let (mut check, start) = check(SPEC);
            let is_given = check.judge(&seen(start, presented, at, answer));
            assert_eq!(is_given, matches!(expected, "own" | "others"), "{presented} {at:?} {answer:?}");
            let mut statistics = Statistics::default();
            check.summarize("x", &mut statistics);
            let name = match expected {
                "own" => "x.judged_by_own",
                "others" => "x.judged_by_others",
                "stale" => "x.stale",
                "unjudged" => "x.unjudged",
                _ => "x.mixtures",
            };
            assert_eq!(statistics.value(name), Some(1.0), "{presented} {at:?} {answer:?}");
            assert_eq!(check.examples().len() as u64, check.mixtures + check.stale);
        }
    }

    /// G3: a key of one configuration with the rights of another: what the first refuses and the second does not know
    #[test]
    fn the_rights_of_another_configuration_are_found() {
        let crossed = "ahead = 0\nown = { status = 403, reason = 'policy_denied' }\n\
                       others = { status = 403, reason = 'unknown_key' }\n";
        let (mut check, start) = check(crossed);
        let mut judge = |status, reason| {
            let mut answer = seen(start, 1, (11, 12), (status, reason, ["", ""]));
            answer.headers.clear();
            check.judge(&answer)
        };
        assert!(judge(403, "policy_denied"));
        assert!(judge(403, "unknown_key"));
        assert!(!judge(200, ""));
        assert_eq!(check.mixtures, 1);
    }
}
