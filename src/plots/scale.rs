//! Units, and the marks of the axes.

use std::time::Duration;

/// The unit of a plot's values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unit {
    Bytes,
    Milliseconds,
    Percent,
    /// A number of something: its name, or nothing.
    Count(String),
}

const BYTE_UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
/// The most marks of an axis.
const MARKS_MAX: f64 = 5.0;
/// Distances of marks on the time axis, in seconds: whole parts of a minute, an hour and a day.
const TIME_STEPS: [u64; 17] =
    [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 21_600, 43_200, 86_400];

impl Unit {
    /// The unit with this name in the API.
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "bytes" => Self::Bytes,
            "ms" | "milliseconds" => Self::Milliseconds,
            "%" | "percent" => Self::Percent,
            other => Self::Count(other.to_owned()),
        }
    }

    /// A value with its unit.
    pub(crate) fn format(&self, value: f64) -> String {
        match self {
            Self::Bytes => format_bytes(value),
            Self::Milliseconds if value.abs() >= 10_000.0 => format!("{} s", short(value / 1e3)),
            Self::Milliseconds => format!("{} ms", short(value)),
            Self::Percent => format!("{} %", short(value)),
            Self::Count(_) => short(value),
        }
    }

    /// The lowest upper end of the axis: values near nothing do not fill the plot.
    fn smallest_top(&self) -> f64 {
        match self {
            Self::Bytes => 4096.0,
            Self::Percent => 1.0,
            Self::Milliseconds => 1.0,
            Self::Count(_) => 4.0,
        }
    }

    /// The marks of an axis from 0 to at least `highest`; the last one is the end of the axis.
    pub(super) fn marks(&self, highest: f64) -> Vec<f64> {
        let top = if highest.is_finite() { highest.max(self.smallest_top()) } else { self.smallest_top() };
        let rough = top / MARKS_MAX;
        let step = match self {
            Self::Bytes => 2f64.powf(rough.log2().ceil()),
            _ => {
                let power = 10f64.powf(rough.log10().floor());
                let factors = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter();
                let whole = |factor: &f64| !matches!(self, Self::Count(_)) || (factor * power).fract() == 0.0;
                let fits = |factor: &f64| factor * power >= rough * (1.0 - 1e-9);
                power * factors.filter(whole).find(fits).unwrap_or(10.0)
            }
        };
        let mut marks = vec![0.0];
        let mut mark = 0.0;
        while mark < top * (1.0 - 1e-9) {
            mark += step;
            marks.push(mark);
        }
        marks
    }
}

fn format_bytes(value: f64) -> String {
    let (mut value, mut unit) = (value, 0);
    while value.abs() >= 1024.0 && unit + 1 < BYTE_UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{} {}", short(value), BYTE_UNITS[unit])
}

/// At most three significant digits behind a whole part, without zeros at the end.
fn short(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// The distance of the marks on a time axis of this length.
pub(super) fn time_step(span: Duration) -> Duration {
    let rough = span.as_secs_f64() / MARKS_MAX;
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let step = TIME_STEPS.into_iter().find(|step| *step as f64 >= rough);
    let day = TIME_STEPS[TIME_STEPS.len() - 1];
    step.map_or_else(
        || Duration::from_secs(day).mul_f64((rough / 86_400.0).ceil().max(1.0)),
        Duration::from_secs,
    )
}

/// A length of time: `10 min`, `30 s`, `2 h`.
pub(super) fn length(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds > 0 && seconds % 3_600 == 0 => format!("{} h", seconds / 3_600),
        seconds if seconds > 0 && seconds % 60 == 0 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}
