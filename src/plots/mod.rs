//! Plots of values over time: pure functions from a [`Plot`] to an SVG image, to a table, and to both in a figure.
//!
//! The page of the admin listener and the reports use them. `plotters` draws with its SVG backend; `theme.rs` adds a class to
//! every coloured element, so that a style sheet themes the plot, also in dark mode. Without a style sheet the elements have
//! colours of their own. A plot is never the only form of its data: the image has a title and a description, and the table
//! has the lowest, mean and highest value of each part of the time.
//!
//! All texts are escaped. The size of an image depends on its width, not on the number of values.

mod axis;
mod figure;
mod scale;
mod svg;
mod text;
mod theme;

use std::time::{Duration, SystemTime};

pub(crate) use figure::figure;
pub(crate) use scale::Unit;
pub(crate) use svg::{PlotError, svg};
pub(crate) use text::escape;

/// A plot.
#[derive(Debug, Clone)]
pub(crate) struct Plot {
    /// Unique on its page.
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) unit: Unit,
    /// The time of the last value; with [`TimeLabels::Clock`] the begin of its interval.
    pub(crate) end: SystemTime,
    /// The time between two values.
    pub(crate) interval: Duration,
    /// The time that the horizontal axis shows, up to the end.
    pub(crate) span: Duration,
    pub(crate) time_labels: TimeLabels,
    /// At most [`LINES_MAX`] are drawn.
    pub(crate) lines: Vec<Line>,
    pub(crate) thresholds: Vec<Threshold>,
}

/// The most lines of one plot: more cannot be told apart.
pub(crate) const LINES_MAX: usize = 4;

/// How the horizontal axis is labelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimeLabels {
    /// As the time before the end: a live plot.
    Ago,
    /// As the time of day (UTC): a report.
    Clock,
}

/// One measured line.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// Its name; a plot of one line may have none.
    pub(crate) label: String,
    /// One value an interval, the oldest first. None: nothing was measured, and the line has a gap.
    pub(crate) values: Vec<Option<f64>>,
}

/// A value at which something happens.
#[derive(Debug, Clone)]
pub(crate) struct Threshold {
    pub(crate) kind: ThresholdKind,
    pub(crate) value: f64,
}

/// What happens at a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ThresholdKind {
    Warning,
    Critical,
    Exhausted,
}

impl ThresholdKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
            Self::Exhausted => "exhausted",
        }
    }
}

impl Plot {
    /// The ID with other characters than ASCII letters, digits and `-` as their numbers. Different IDs stay different.
    fn safe_id(&self) -> String {
        let mut safe = String::new();
        for c in self.id.chars() {
            match c {
                '-' => safe.push(c),
                c if c.is_ascii_alphanumeric() => safe.push(c),
                c => safe += &format!("_{:x}_", u32::from(c)),
            }
        }
        safe
    }

    /// What the plot shows, in sentences: for readers who do not see it.
    fn description(&self) -> String {
        let mut text = String::new();
        for line in self.lines.iter().take(LINES_MAX) {
            let name = if line.label.is_empty() { "Last value" } else { &line.label };
            let last = line.values.last().copied().flatten();
            let last = last.map_or_else(|| "unknown".to_owned(), |value| self.unit.format(value));
            text += &match Summary::of(&line.values) {
                Some(Summary { lowest, highest, .. }) => {
                    let (lowest, highest) = (self.unit.format(lowest), self.unit.format(highest));
                    format!("{name} {last}, lowest {lowest}, highest {highest}. ")
                }
                None => format!("{name} unknown. "),
            };
        }
        for threshold in &self.thresholds {
            text +=
                &format!("Threshold {}: {}. ", threshold.kind.as_str(), self.unit.format(threshold.value));
        }
        text.trim_end().to_owned()
    }
}

/// Lowest, mean and highest of some values.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Summary {
    lowest: f64,
    mean: f64,
    highest: f64,
}

impl Summary {
    /// None without a value.
    fn of(values: &[Option<f64>]) -> Option<Self> {
        let known = || values.iter().flatten().copied().filter(|value| value.is_finite());
        let count = known().count();
        (count > 0).then(|| Self {
            lowest: known().fold(f64::INFINITY, f64::min),
            #[expect(clippy::cast_precision_loss, reason = "far fewer values than 2^53")]
            mean: known().sum::<f64>() / count as f64,
            highest: known().fold(f64::NEG_INFINITY, f64::max),
        })
    }
}

#[cfg(test)]
#[path = "plots_tests.rs"]
mod tests;
