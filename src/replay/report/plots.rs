//! The figures over time as plots: requests, refusals and waits.

use std::time::{Duration, SystemTime};

use crate::plots::{Line, Plot, TimeLabels, Unit};
use crate::replay::report::{Report, Side, TimelineRow};
use crate::replay::timeline::Interval;

/// The plots of a report.
pub(super) fn over_time(report: &Report) -> Vec<Plot> {
    let width = Duration::try_from_secs_f64(report.timeline_width_s).unwrap_or(Duration::from_secs(1));
    let count = u32::try_from(report.timeline.len()).unwrap_or(u32::MAX);
    let begin = SystemTime::UNIX_EPOCH + Duration::from_micros(report.timeline_begin_us);
    let end = begin.checked_add(width.saturating_mul(count.saturating_sub(1))).unwrap_or(begin);
    let plot = |id: &str, title: &str, lines: Vec<Line>| Plot {
        id: id.to_owned(),
        title: title.to_owned(),
        unit: Unit::Count("requests".to_owned()),
        end,
        interval: width,
        span: width.saturating_mul(count.saturating_sub(1).max(1)),
        time_labels: TimeLabels::Clock,
        lines,
        thresholds: Vec::new(),
    };
    let requests = vec![
        Line { label: "all".to_owned(), values: values(report, |row| Some(row.log.requests)) },
        Line {
            label: "admitted".to_owned(),
            values: values(report, |row| Some(row.new.requests.saturating_sub(row.new.refused()))),
        },
    ];
    vec![
        plot("requests", "Requests, and those that new admits", requests),
        plot("refused", "Refused requests", sides(report, Interval::refused)),
        plot("queued", "Requests that waited for more than 10 ms", sides(report, |interval| interval.queued)),
    ]
}

/// One line for each side.
fn sides(report: &Report, of: fn(&Interval) -> u64) -> Vec<Line> {
    let line = |label: &str, interval: &dyn Fn(&TimelineRow) -> Option<Interval>| Line {
        label: label.to_owned(),
        values: values(report, |row| interval(row).map(|interval| of(&interval))),
    };
    let mut lines = vec![line("log", &|row| Some(row.log))];
    if report.all.iter().any(|counts| counts.side == Side::Against) {
        lines.push(line("old model", &|row| row.against));
    }
    lines.push(line("new", &|row| Some(row.new)));
    lines
}

fn values(report: &Report, of: impl Fn(&TimelineRow) -> Option<u64>) -> Vec<Option<f64>> {
    #[expect(clippy::cast_precision_loss, reason = "a count of requests in a plot")]
    let value = |row: &TimelineRow| of(row).map(|count| count as f64);
    report.timeline.iter().map(value).collect()
}
