//! The report as text for a terminal.

use std::fmt::Write as _;

use crate::replay::report::side::SideTable;
use crate::replay::report::{Report, SideCounts, TimelineRow};
use crate::replay::suggestion::Suggestion;
use crate::telemetry::escape::escape_controls;

/// Rows of the timeline that are shown: those with a refusal or a wait, the busiest first.
const TIMES_SHOWN: usize = 20;
const CIRCUITS_SHOWN: usize = 20;

/// The report.
#[must_use]
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    write_log(&mut text, report);
    text.push_str("\nall requests\n");
    write_sides(&mut text, &report.all);
    for change in report.changes() {
        let _ = writeln!(text, "  {change}");
    }
    if report.buckets.len() > 1 {
        for bucket in &report.buckets {
            let name = bucket.bucket.as_deref().unwrap_or("(none)");
            let _ = writeln!(text, "\nbucket {}", escape_controls(name));
            write_sides(&mut text, &bucket.sides);
        }
    }
    write_clients(&mut text, report);
    write_times(&mut text, &report.timeline, report.timeline_width_s);
    if !report.circuits.is_empty() {
        let _ = writeln!(text, "\ncircuits with new: {} changes", report.circuits_total);
        for change in report.circuits.iter().take(CIRCUITS_SHOWN) {
            let _ = writeln!(
                text,
                "  {} {} {}: {}",
                change.at,
                escape_controls(&change.bucket),
                change.class,
                change.state
            );
        }
    }
    if let Some(suggestions) = &report.suggestions {
        write_suggestions(&mut text, suggestions);
    }
    text.push_str("\nnot simulated\n");
    for sentence in &report.not_simulated {
        let _ = writeln!(text, "  - {sentence}");
    }
    text
}

fn write_log(text: &mut String, report: &Report) {
    let log = &report.log;
    let counts = &log.counts;
    let _ = writeln!(
        text,
        "log from {} to {}: {} requests in {} lines",
        log.begin, log.end, counts.requests, counts.lines
    );
    for note in log.notes() {
        let _ = writeln!(text, "  {}", escape_controls(&note));
    }
}

fn write_sides(text: &mut String, sides: &[SideCounts]) {
    let SideTable { titles, rows } = SideTable::new(sides);
    let row = |text: &mut String, title: &str, cells: &mut dyn Iterator<Item = &str>| {
        let _ = write!(text, "  {title:<28}");
        for cell in cells {
            let _ = write!(text, "{cell:>16}");
        }
        text.push('\n');
    };
    row(text, "", &mut titles.iter().copied());
    for (title, cells) in &rows {
        row(text, &escape_controls(title), &mut cells.iter().map(String::as_str));
    }
}

fn write_clients(text: &mut String, report: &Report) {
    if report.clients.is_empty() {
        return;
    }
    let _ = writeln!(text, "\nclients                              requests  refused by log  refused by new");
    for client in &report.clients {
        let _ = writeln!(
            text,
            "  {:<32}{:>11}{:>16}{:>16}",
            escape_controls(&client.client),
            client.requests,
            client.refused_by_log,
            client.refused_by_new
        );
    }
}

fn write_times(text: &mut String, rows: &[TimelineRow], width: f64) {
    let touched = |row: &TimelineRow| {
        let of = |interval: &crate::replay::timeline::Interval| interval.refused() + interval.queued;
        of(&row.log).max(of(&row.new))
    };
    let mut busiest: Vec<&TimelineRow> = rows.iter().filter(|row| touched(row) > 0).collect();
    if busiest.is_empty() {
        return;
    }
    busiest.sort_by_key(|row| std::cmp::Reverse(touched(row)));
    busiest.truncate(TIMES_SHOWN);
    busiest.sort_by(|one, other| one.begin.cmp(&other.begin));
    let _ = writeln!(text, "\nintervals of {width} s with the most refusals and waits");
    let _ = writeln!(
        text,
        "  {:<26}{:>10}{:>14}{:>14}{:>14}{:>14}",
        "begin", "requests", "refused: log", "new", "queued: log", "new"
    );
    for row in busiest {
        let _ = writeln!(
            text,
            "  {:<26}{:>10}{:>14}{:>14}{:>14}{:>14}",
            row.begin,
            row.log.requests,
            row.log.refused(),
            row.new.refused(),
            row.log.queued,
            row.new.queued
        );
    }
}

fn write_suggestions(text: &mut String, suggestions: &[Suggestion]) {
    text.push_str(
        "\ntightest limits that would have refused at most 0.1 % of these requests, each by itself\n",
    );
    for Suggestion { key, value, burst, refused } in suggestions {
        let burst = burst.map(|burst| format!(", burst {burst}")).unwrap_or_default();
        let _ = writeln!(text, "  {} = {value}{burst} (refuses {refused})", escape_controls(key));
    }
}
