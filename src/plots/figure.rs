//! A plot as HTML: the image, and the same data as a table.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use super::svg::{PlotError, svg};
use super::text::escape;
use super::{LINES_MAX, Line, Plot, Summary, TimeLabels, scale};
use crate::telemetry::rfc3339;

/// The most rows of a table.
const ROWS: usize = 10;

/// The end of the year 9999 since 1970: time stamps have no later year.
const TIME_MAX: Duration = Duration::from_secs(253_402_300_799);

/// The image with its caption, and the table below it in a part that can be opened.
///
/// # Errors The image could not be drawn.
pub(crate) fn figure(plot: &Plot) -> Result<String, PlotError> {
    let image = svg(plot)?;
    let id = plot.safe_id();
    let lines = plot.lines.iter().take(LINES_MAX);
    let last: Vec<String> = lines.filter_map(|line| last_value(plot, line)).collect();
    let last = last.join(", ");
    Ok(format!(
        "<figure class=\"plot-figure\" id=\"plot-{id}\">\n<figcaption><span>{}</span> <b>{}</b></figcaption>\n{image}\n\
         <details><summary>Table: {}</summary>\n{}</details>\n</figure>\n",
        escape(&plot.title),
        escape(&last),
        escape(&plot.title),
        table(plot)
    ))
}

/// The last known value of a line, with its name.
fn last_value(plot: &Plot, line: &Line) -> Option<String> {
    let value = line.values.iter().rev().flatten().find(|value| value.is_finite())?;
    let value = plot.unit.format(*value);
    Some(if line.label.is_empty() { value } else { format!("{} {value}", line.label) })
}

/// The lowest, mean and highest value of each tenth of the time, the newest first.
fn table(plot: &Plot) -> String {
    let lines = || plot.lines.iter().take(LINES_MAX);
    let mut html = format!(
        "<table>\n<caption>{}</caption>\n<thead><tr><th scope=\"col\">Time</th>",
        escape(&plot.title)
    );
    for line in lines() {
        for column in ["lowest", "mean", "highest"] {
            let separator = if line.label.is_empty() { "" } else { ": " };
            let _ = write!(html, "<th scope=\"col\">{}{separator}{column}</th>", escape(&line.label));
        }
    }
    html += "</tr></thead>\n<tbody>\n";
    let in_span = (plot.span.as_secs_f64() / plot.interval.as_secs_f64().max(1e-3)).round();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive number")]
    let in_span = lines().map(|line| line.values.len()).fold(in_span as usize, usize::max);
    let in_row = in_span.div_ceil(ROWS).max(1);
    for row in 0..ROWS {
        let summaries: Vec<_> = lines().map(|line| Summary::of(newest(&line.values, row, in_row))).collect();
        if summaries.iter().all(Option::is_none) {
            continue;
        }
        let _ = write!(html, "<tr><th scope=\"row\">{}</th>", escape(&row_label(plot, row, in_row)));
        for summary in summaries {
            let cells =
                summary.map(|of| [of.lowest, of.mean, of.highest].map(|value| plot.unit.format(value)));
            for cell in cells.unwrap_or_else(|| [(); 3].map(|()| "unknown".to_owned())) {
                let _ = write!(html, "<td>{}</td>", escape(&cell));
            }
        }
        html += "</tr>\n";
    }
    html + "</tbody>\n</table>\n"
}

/// The values of a row; row 0 has the newest.
fn newest(values: &[Option<f64>], row: usize, in_row: usize) -> &[Option<f64>] {
    let end = values.len().saturating_sub(row * in_row);
    &values[end.saturating_sub(in_row)..end]
}

fn row_label(plot: &Plot, row: usize, in_row: usize) -> String {
    let before = |values: usize| plot.interval.mul_f64(f64::from(u32::try_from(values).unwrap_or(u32::MAX)));
    let (to, from) = (before(row * in_row), before((row + 1) * in_row));
    match plot.time_labels {
        TimeLabels::Ago if row == 0 => format!("last {}", scale::length(from)),
        TimeLabels::Ago => format!("{} to {} ago", scale::length(from), scale::length(to)),
        TimeLabels::Clock => {
            // The last value is that of the interval which begins at `end`.
            let end = plot.end.checked_add(plot.interval).unwrap_or(plot.end);
            let clock = |before: Duration| {
                let time = end.checked_sub(before).map(|time| time.min(SystemTime::UNIX_EPOCH + TIME_MAX));
                let time = time.map(rfc3339).unwrap_or_default();
                time.get(11..19).unwrap_or_default().to_owned()
            };
            format!("{} to {}", clock(from), clock(to))
        }
    }
}
