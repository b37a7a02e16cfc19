//! Records the outcomes of all requests of one load in constant memory. It keeps no list of requests.
//!
//! Latencies count from the intended send time. Answers are classified as `ok` (2xx), `refused` (429 and 503: intended refusals) and errors
//! (all others). `lost` is all except `ok`. A mark is the time of an event (an upstream is killed or restored), from which the first
//! success and the last error are measured. The times of broken connections are kept, up to a maximum.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::client::RequestFault;
use crate::clock::millis;
use crate::head::RefusalHead;
use crate::statistics::Statistics;

/// A later answer does not count as goodput, because it is of no use to an interactive client.
const GOODPUT_WITHIN: Duration = Duration::from_secs(1);

/// An hour. Longer times count as an hour.
const MICROS_MAX: u64 = 3_600_000_000;

/// Maximum of recorded broken connections, which are matched with the gateway's log.
const BROKEN_MAX: usize = 10_000;
/// Maximum of recorded refusals, which are matched with the gateway's decisions.
const REFUSALS_MAX: usize = 1_000_000;

/// How a request ended: with a status, or without a complete answer.
pub(crate) type Outcome = Result<u16, RequestFault>;

/// One finished request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FinishedRequest {
    /// Intended send time.
    pub(crate) intended: Instant,
    /// Actual send time.
    pub(crate) sent: Instant,
    /// Time of the last byte or of the failure.
    pub(crate) ended: Instant,
    /// The outcome.
    pub(crate) outcome: Outcome,
    /// Bytes of the answer's body.
    pub(crate) body_bytes: u64,
}

/// A refusal as the client received it.
#[derive(Debug, Clone)]
pub(crate) struct ReceivedRefusal {
    pub(crate) status: u16,
    pub(crate) head: RefusalHead,
}

struct Mark {
    name: String,
    at: Instant,
    first_ok: Option<Duration>,
    first_lost: Option<Duration>,
    last_lost: Duration,
    lost_before: u64,
    done_before: u64,
    lost_since: u64,
    done_since: u64,
}

impl Mark {
    fn record(&mut self, ended: Instant, is_ok: bool) {
        let Some(since) = ended.checked_duration_since(self.at) else {
            return;
        };
        self.done_since += 1;
        if is_ok {
            self.first_ok = Some(self.first_ok.map_or(since, |first| first.min(since)));
        } else {
            self.first_lost = Some(self.first_lost.map_or(since, |first| first.min(since)));
            self.last_lost = self.last_lost.max(since);
            self.lost_since += 1;
        }
    }
}

/// Counts and histograms of one load.
pub(crate) struct Recorder {
    done: u64,
    ok: u64,
    ok_in_time: u64,
    refused: u64,
    without_reason: u64,
    broken: Vec<Instant>,
    refusals: Vec<ReceivedRefusal>,
    refusals_left_out: u64,
    body_bytes: u64,
    statuses: BTreeMap<u16, u64>,
    faults: BTreeMap<RequestFault, u64>,
    ok_micros: Histogram<u64>,
    refused_micros: Histogram<u64>,
    error_micros: Histogram<u64>,
    lag_micros: Histogram<u64>,
    marks: Vec<Mark>,
    begin: Option<Instant>,
    planned: Option<Duration>,
    last_end: Option<Instant>,
}

/// An empty histogram of microseconds.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(MICROS_MAX, 3)
        .unwrap_or_else(|_| unreachable!("the bounds are constants and valid"))
}

/// Adds a duration.
pub(crate) fn record(histogram: &mut Histogram<u64>, duration: Duration) {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    histogram.saturating_record(micros);
}

impl Recorder {
    /// An empty recorder.
    pub(crate) fn new() -> Self {
        Self {
            done: 0,
            ok: 0,
            ok_in_time: 0,
            refused: 0,
            without_reason: 0,
            broken: Vec::new(),
            refusals: Vec::new(),
            refusals_left_out: 0,
            body_bytes: 0,
            statuses: BTreeMap::new(),
            faults: BTreeMap::new(),
            ok_micros: histogram(),
            refused_micros: histogram(),
            error_micros: histogram(),
            lag_micros: histogram(),
            marks: Vec::new(),
            begin: None,
            planned: None,
            last_end: None,
        }
    }

    /// Records the begin of the load. Requests that end after `planned` do not count for the rates.
    pub(crate) fn begin(&mut self, at: Instant, planned: Option<Duration>) {
        self.begin = Some(at);
        self.planned = planned;
    }

    /// Counts one request.
    pub(crate) fn record(&mut self, finished: FinishedRequest) {
        let latency = finished.ended.saturating_duration_since(finished.intended);
        let is_ok = matches!(finished.outcome, Ok(200..=299));
        self.done += 1;
        self.body_bytes += finished.body_bytes;
        self.last_end = self.last_end.max(Some(finished.ended));
        record(&mut self.lag_micros, finished.sent.saturating_duration_since(finished.intended));
        match finished.outcome {
            Ok(status) => *self.statuses.entry(status).or_default() += 1,
            Err(fault) => {
                *self.faults.entry(fault).or_default() += 1;
                if fault.is_broken_connection() && self.broken.len() < BROKEN_MAX {
                    self.broken.push(finished.ended);
                }
            }
        }
        match finished.outcome {
            Ok(200..=299) => {
                self.ok += 1;
                self.ok_in_time += u64::from(latency <= GOODPUT_WITHIN && self.is_in_plan(finished.ended));
                record(&mut self.ok_micros, latency);
            }
            Ok(429 | 503) => {
                self.refused += 1;
                record(&mut self.refused_micros, latency);
            }
            _ => record(&mut self.error_micros, latency),
        }
        for mark in &mut self.marks {
            mark.record(finished.ended, is_ok);
        }
    }

    fn is_in_plan(&self, at: Instant) -> bool {
        self.begin.zip(self.planned).is_none_or(|(begin, planned)| at <= begin + planned)
    }

    /// Adds a mark: requests after `at` are also reported as `…_after_NAME`.
    pub(crate) fn mark(&mut self, name: &str, at: Instant) {
        self.marks.push(Mark {
            name: name.to_owned(),
            at,
            first_ok: None,
            first_lost: None,
            last_lost: Duration::ZERO,
            lost_before: self.lost(),
            done_before: self.done,
            lost_since: 0,
            done_since: 0,
        });
    }

    /// Counts an answer other than 2xx without a reason.
    pub(crate) fn count_without_reason(&mut self) {
        self.without_reason += 1;
    }

    /// Records a refusal that arrived.
    pub(crate) fn record_refusal(&mut self, status: u16, head: RefusalHead) {
        if self.refusals.len() < REFUSALS_MAX {
            self.refusals.push(ReceivedRefusal { status, head });
        } else {
            self.refusals_left_out += 1;
        }
    }

    /// The refusals that arrived, and the number of those beyond the maximum.
    pub(crate) fn take_refusals(&mut self) -> (Vec<ReceivedRefusal>, u64) {
        (std::mem::take(&mut self.refusals), self.refusals_left_out)
    }

    /// Requests without a complete answer.
    pub(crate) fn unanswered(&self) -> u64 {
        self.faults.values().sum()
    }

    /// Times at which connections broke.
    pub(crate) fn broken(&self) -> &[Instant] {
        &self.broken
    }

    /// Requests that ended so far.
    pub(crate) fn done(&self) -> u64 {
        self.done
    }

    /// Requests without a 2xx.
    pub(crate) fn lost(&self) -> u64 {
        self.done - self.ok
    }

    /// A summary for the progress line.
    pub(crate) fn progress_line(&self) -> String {
        let errors = self.lost() - self.refused;
        let p99 = self.ok_micros.value_at_quantile(0.99) as f64 / 1e3;
        format!("{} done, {} refused, {errors} errors, p99 {p99:.1} ms", self.done, self.refused)
    }

    /// Writes all statistics as `PREFIX.…`. Rates are per second of the planned length or, without one, of the elapsed time.
    pub(crate) fn summarize(&self, prefix: &str, into: &mut Statistics) {
        let elapsed = self.begin.zip(self.last_end).map(|(begin, end)| end.saturating_duration_since(begin));
        let seconds = self.planned.or(elapsed).map(|duration| duration.as_secs_f64());
        let mut count = |name: &str, value: u64| into.set(format!("{prefix}.{name}"), value as f64);
        count("requests", self.done);
        count("ok", self.ok);
        count("refused", self.refused);
        count("errors", self.lost() - self.refused);
        count("lost", self.lost());
        count("without_reason", self.without_reason);
        count("body_bytes", self.body_bytes);
        for (status, requests) in &self.statuses {
            count(&format!("status_{status}"), *requests);
        }
        for fault in RequestFault::ALL {
            count(&format!("fault_{}", fault.name()), self.faults.get(&fault).copied().unwrap_or(0));
        }
        for mark in &self.marks {
            let name = &mark.name;
            into.set(format!("{prefix}.requests_before_{name}"), mark.done_before as f64);
            into.set(format!("{prefix}.lost_before_{name}"), mark.lost_before as f64);
            into.set(format!("{prefix}.requests_after_{name}"), mark.done_since as f64);
            into.set(format!("{prefix}.lost_after_{name}"), mark.lost_since as f64);
            into.set(format!("{prefix}.last_lost_after_{name}_ms"), millis(mark.last_lost));
            into.set_if_present(format!("{prefix}.first_ok_after_{name}_ms"), mark.first_ok.map(millis));
            into.set_if_present(format!("{prefix}.first_lost_after_{name}_ms"), mark.first_lost.map(millis));
        }
        if let Some(seconds) = seconds.filter(|seconds| *seconds > 0.0) {
            into.set(format!("{prefix}.goodput_per_s"), self.ok_in_time as f64 / seconds);
            into.set(format!("{prefix}.mib_per_s"), self.body_bytes as f64 / seconds / f64::from(1 << 20));
        }
        set_percentiles(&format!("{prefix}."), &self.ok_micros, into);
        set_percentiles(&format!("{prefix}.refused_"), &self.refused_micros, into);
        set_percentiles(&format!("{prefix}.error_"), &self.error_micros, into);
        set_percentiles(&format!("{prefix}.send_lag_"), &self.lag_micros, into);
    }
}

/// Writes the percentiles as `PREFIXp50_ms` and so on.
pub(crate) fn set_percentiles(prefix: &str, micros: &Histogram<u64>, into: &mut Statistics) {
    if micros.is_empty() {
        return;
    }
    for (name, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999), ("max", 1.0)] {
        into.set(format!("{prefix}{name}_ms"), micros.value_at_quantile(quantile) as f64 / 1e3);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn finished(begin: Instant, intended_ms: u64, ended_ms: u64, outcome: Outcome) -> FinishedRequest {
        let at = |ms| begin + Duration::from_millis(ms);
        FinishedRequest {
            intended: at(intended_ms),
            sent: at(intended_ms),
            ended: at(ended_ms),
            outcome,
            body_bytes: 1,
        }
    }

    fn statistics(recorder: &Recorder) -> Statistics {
        let mut statistics = Statistics::default();
        recorder.summarize("x", &mut statistics);
        statistics
    }

    #[test]
    fn latency_counts_from_the_intended_send_time() {
        let begin = clock::now();
        let mut recorder = Recorder::new();
        let late = finished(begin, 0, 250, Ok(200));
        recorder.record(FinishedRequest { sent: late.ended - Duration::from_millis(1), ..late });
        let statistics = statistics(&recorder);
        assert!(statistics.value("x.p50_ms").unwrap() >= 250.0);
        assert!(statistics.value("x.send_lag_p50_ms").unwrap() >= 249.0);
    }

    #[test]
    fn outcomes_are_classified() {
        let begin = clock::now();
        let mut recorder = Recorder::new();
        recorder.begin(begin, Some(Duration::from_secs(2)));
        let outcomes = [Ok(200), Ok(206), Ok(503), Ok(429), Ok(502), Err(RequestFault::Closed)];
        for outcome in outcomes {
            recorder.record(finished(begin, 0, 10, outcome));
        }
        recorder.record(finished(begin, 0, 1_500, Ok(200)));
        recorder.record(finished(begin, 1_990, 2_010, Ok(200)));
        let statistics = statistics(&recorder);
        let expected = [("ok", 4.0), ("refused", 2.0), ("errors", 2.0), ("lost", 4.0), ("status_502", 1.0)];
        for (name, value) in expected.into_iter().chain([("fault_closed", 1.0), ("goodput_per_s", 1.0)]) {
            assert_eq!(statistics.value(&format!("x.{name}")), Some(value), "{name}");
        }
    }

    #[test]
    fn a_mark_measures_recovery() {
        let begin = clock::now();
        let mut recorder = Recorder::new();
        recorder.record(finished(begin, 0, 5, Ok(200)));
        recorder.mark("back", begin + Duration::from_millis(100));
        recorder.record(finished(begin, 80, 110, Ok(503)));
        recorder.record(finished(begin, 90, 130, Ok(200)));
        recorder.record(finished(begin, 95, 120, Err(RequestFault::Connect)));
        let statistics = statistics(&recorder);
        assert_eq!(statistics.value("x.first_ok_after_back_ms"), Some(30.0));
        assert_eq!(statistics.value("x.last_lost_after_back_ms"), Some(20.0));
        assert_eq!(statistics.value("x.first_lost_after_back_ms"), Some(10.0));
        assert_eq!(statistics.value("x.requests_before_back"), Some(1.0));
        assert_eq!(statistics.value("x.lost_before_back"), Some(0.0));
        assert_eq!(statistics.value("x.lost_after_back"), Some(2.0));
        assert_eq!(recorder.broken(), [begin + Duration::from_millis(120)]);
        assert_eq!(statistics.value("x.requests_after_back"), Some(3.0));
    }
}
