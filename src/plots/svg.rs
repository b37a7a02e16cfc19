//! A plot as an SVG image.

use std::time::Duration;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use thiserror::Error;

use super::axis::Axis;
use super::text::{escape, printable};
use super::theme::{Role, add_classes};
use super::{LINES_MAX, Line, Plot, TimeLabels, Unit, scale};
use crate::telemetry::rfc3339;

/// Width and height of an image in its own units. A page scales it to about half.
const SIZE: (u32, u32) = (880, 300);
const FONT_SIZE: f64 = 29.0;
/// The least distance of two labels at the right edge.
const LABEL_DISTANCE: i32 = 27;
const LABEL_CHARS_MAX: usize = 16;
/// The characters of a text are on average narrower than this: the backend draws a font of [`FONT_SIZE`] at 0.8 of it.
const CHAR_WIDTH: u32 = 13;
/// The distance of a label from its line or mark.
const LABEL_GAP: u32 = 8;
/// The least width of the labels of the vertical axis, and of those at the right edge: most plots have the same.
const LEFT_MIN: u32 = 104;
const RIGHT_MIN: u32 = 138;
const BELOW: u32 = 40;
const ABOVE: u32 = 16;
/// The most points of a line: more than one for each pixel is not visible.
const POINTS_MAX: usize = 700;
/// The radius of a value between two gaps, which is no line.
const POINT_RADIUS: u32 = 4;
/// A longer gap, in values, is not bridged by a thin line.
const BRIDGED_MAX: f64 = 30.0;

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;

/// A plot could not be drawn.
#[derive(Debug, Error)]
#[error("the plot `{id}` could not be drawn: {cause}")]
pub(crate) struct PlotError {
    id: String,
    cause: String,
}

/// The image.
///
/// # Errors `plotters` refuses to draw. Its SVG backend writes to memory, so that is a defect.
pub(crate) fn svg(plot: &Plot) -> Result<String, PlotError> {
    let mut drawn = String::new();
    draw(plot, &mut drawn).map_err(|cause| PlotError { id: plot.id.clone(), cause })?;
    let id = plot.safe_id();
    let body = drawn.split_once('>').map_or("", |(_, body)| body);
    Ok(format!(
        "<svg class=\"plot\" viewBox=\"0 0 {} {}\" xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" \
         aria-labelledby=\"plot-{id}-title plot-{id}-description\">\n<title id=\"plot-{id}-title\">{}</title>\n\
         <desc id=\"plot-{id}-description\">{}</desc>{}",
        SIZE.0,
        SIZE.1,
        escape(&plot.title),
        escape(&plot.description()),
        add_classes(body)
    ))
}

fn draw(plot: &Plot, drawn: &mut String) -> Result<(), String> {
    let text = |role: Role| TextStyle {
        color: role.color().to_backend_color(),
        ..TextStyle::from(("sans-serif", FONT_SIZE).into_font())
    };
    let root = SVGBackend::with_string(drawn, SIZE).into_drawing_area();
    let thresholds = plot.thresholds.iter().map(|threshold| threshold.value);
    let values = plot.lines.iter().flat_map(|line| line.values.iter().flatten().copied());
    let highest = values.chain(thresholds).filter(|value| value.is_finite()).fold(0.0, f64::max);
    let whole = if plot.unit == Unit::Percent && !plot.thresholds.is_empty() { 100.0 } else { 0.0 };
    let marks = plot.unit.marks(highest.max(whole));
    let top = marks.last().copied().unwrap_or(1.0);
    let span = plot.span.as_secs_f64().max(1.0);
    let right = label_width(right_labels(plot)).max(RIGHT_MIN);
    let left = label_width(marks.iter().map(|mark| plot.unit.format(*mark))).max(LEFT_MIN);
    let mut chart = ChartBuilder::on(&root)
        .margin_top(ABOVE)
        .margin_right(right)
        .x_label_area_size(BELOW)
        .y_label_area_size(left)
        .build_cartesian_2d(
            Axis { range: -span..0.0, marks: time_marks(plot) },
            Axis { range: 0.0..top, marks },
        )
        .map_err(|error| error.to_string())?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(Role::Grid.color().stroke_width(2))
        .axis_style(TRANSPARENT)
        .set_all_tick_mark_size(4)
        .label_style(text(Role::Text))
        .x_label_formatter(&|at| time_label(plot, *at))
        .y_label_formatter(&|value| plot.unit.format(*value))
        .draw()
        .map_err(|error| error.to_string())?;
    let mut labels = Vec::new();
    for threshold in &plot.thresholds {
        let role = Role::Threshold(threshold.kind);
        let line = PathElement::new(
            [(-span, threshold.value), (0.0, threshold.value)],
            role.color().stroke_width(2),
        );
        chart.draw_series([line]).map_err(|error| error.to_string())?;
        let (_, height) = chart.backend_coord(&(0.0, threshold.value));
        labels.push((height, threshold.kind.as_str().to_owned(), role));
    }
    for (number, line) in plot.lines.iter().take(LINES_MAX).enumerate() {
        let role = Role::Line(number);
        draw_line(&mut chart, plot, line, role)?;
        let last = line.values.iter().rev().flatten().next().filter(|_| !line.label.is_empty());
        let label = last.map(|last| (chart.backend_coord(&(0.0, *last)).1, short_label(&line.label), role));
        labels.extend(label);
    }
    for (height, label, role) in spread(labels) {
        let position = (i32::try_from(SIZE.0 - right + LABEL_GAP).unwrap_or(0), height);
        let style = text(role).pos(Pos::new(HPos::Left, VPos::Center));
        root.draw(&Text::new(label, position, style)).map_err(|error| error.to_string())?;
    }
    root.present().map_err(|error| error.to_string())
}

/// The parts of a line, values between two gaps, and thin lines over short gaps.
fn draw_line(chart: &mut Chart<'_, '_>, plot: &Plot, line: &Line, role: Role) -> Result<(), String> {
    let segments = segments(plot, line, plot.span.as_secs_f64().max(1.0));
    for points in &segments {
        if let [point] = points[..] {
            let point = Circle::new(point, POINT_RADIUS, role.color().filled());
            chart.draw_series([point]).map_err(|error| error.to_string())?;
            continue;
        }
        if plot.lines.len() == 1 {
            let area = AreaSeries::new(points.clone(), 0.0, Role::Area.color());
            chart.draw_series(area).map_err(|error| error.to_string())?;
        }
        let path = PathElement::new(points.clone(), role.color().stroke_width(3));
        chart.draw_series([path]).map_err(|error| error.to_string())?;
    }
    let bridges = segments.windows(2).filter_map(|pair| bridge(plot, &pair[0], &pair[1]));
    let bridges = bridges.map(|ends| PathElement::new(ends, role.color().stroke_width(1)));
    chart.draw_series(bridges).map_err(|error| error.to_string())?;
    Ok(())
}

/// The labels at the right edge.
fn right_labels(plot: &Plot) -> impl Iterator<Item = String> {
    let thresholds = plot.thresholds.iter().map(|threshold| threshold.kind.as_str().to_owned());
    thresholds.chain(plot.lines.iter().take(LINES_MAX).map(|line| short_label(&line.label)))
}

/// The width of the widest label, with its distance from what it names.
fn label_width(labels: impl Iterator<Item = String>) -> u32 {
    let longest = labels.map(|label| label.chars().count()).max().unwrap_or_default();
    LABEL_GAP + CHAR_WIDTH * u32::try_from(longest).unwrap_or_default()
}

/// The ends of the thin line over the gap between two parts of a line; none for a long gap.
fn bridge(plot: &Plot, before: &[(f64, f64)], after: &[(f64, f64)]) -> Option<[(f64, f64); 2]> {
    let (from, to) = (*before.last()?, *after.first()?);
    (to.0 - from.0 <= BRIDGED_MAX * plot.interval.as_secs_f64()).then_some([from, to])
}

/// The begin of a label, as much as fits the right edge.
fn short_label(label: &str) -> String {
    let mut short: String = label.chars().take(LABEL_CHARS_MAX).map(printable).collect();
    if label.chars().nth(LABEL_CHARS_MAX).is_some() {
        short.pop();
        short.push('…');
    }
    short
}

/// The labels with a distance between any two, above the time axis.
fn spread(mut labels: Vec<(i32, String, Role)>) -> Vec<(i32, String, Role)> {
    labels.sort_by_key(|(height, ..)| *height);
    let mut free_from = i32::MIN;
    for (height, ..) in &mut labels {
        *height = (*height).max(free_from);
        free_from = *height + LABEL_DISTANCE;
    }
    let mut lowest = i32::try_from(SIZE.1 - BELOW).unwrap_or(i32::MAX) - LABEL_DISTANCE / 2;
    for (height, ..) in labels.iter_mut().rev() {
        *height = (*height).min(lowest);
        lowest = *height - LABEL_DISTANCE;
    }
    labels
}

/// The marks of the time axis, in seconds before the end.
fn time_marks(plot: &Plot) -> Vec<f64> {
    let step = scale::time_step(plot.span).as_secs_f64();
    let mut marks = Vec::new();
    let mut mark = 0.0;
    while mark <= plot.span.as_secs_f64() {
        marks.push(-mark);
        mark += step;
    }
    marks
}

fn time_label(plot: &Plot, at: f64) -> String {
    let before = Duration::from_secs_f64(at.abs().round());
    match plot.time_labels {
        TimeLabels::Ago if before.is_zero() => "now".to_owned(),
        TimeLabels::Ago => format!("\u{2212}{}", scale::length(before)),
        TimeLabels::Clock => {
            let time = plot.end.checked_sub(before).map(rfc3339).unwrap_or_default();
            let has_seconds = scale::time_step(plot.span) < Duration::from_secs(60);
            time.get(11..if has_seconds { 19 } else { 16 }).unwrap_or_default().to_owned()
        }
    }
}

/// The parts of a line without gaps, as points of time and value. Of values that share a pixel the highest is kept.
fn segments(plot: &Plot, line: &Line, span: f64) -> Vec<Vec<(f64, f64)>> {
    let in_point = line.values.len().div_ceil(POINTS_MAX).max(1);
    let count = line.values.len();
    let interval = plot.interval.as_secs_f64();
    let mut segments = vec![Vec::new()];
    for (number, values) in line.values.chunks(in_point).enumerate() {
        let highest = values.iter().flatten().copied().filter(|value| value.is_finite()).reduce(f64::max);
        #[expect(clippy::cast_precision_loss, reason = "far fewer values than 2^53")]
        let at = -((count - 1).saturating_sub(number * in_point) as f64) * interval;
        match (highest, segments.last_mut()) {
            (Some(value), Some(segment)) if at >= -span => segment.push((at, value.max(0.0))),
            (None, Some(segment)) if !segment.is_empty() => segments.push(Vec::new()),
            _ => {}
        }
    }
    segments.retain(|segment| !segment.is_empty());
    segments
}
