//! The timeline of an incident as text.

use std::fmt::Write as _;

use crate::replay::incident::Incident;
use crate::telemetry::escape::escape_controls;

/// The timeline.
#[must_use]
pub fn render(incident: &Incident) -> String {
    let mut text = String::new();
    let Incident { from, to, requests, with_reason, server_errors, counts, .. } = incident;
    let _ = writeln!(
        text,
        "incident from {from} to {to}: {requests} requests, {with_reason} with a reason of the gateway, {server_errors} with a status of \
         500 or more"
    );
    let notes = [
        (incident.outside, "lines are before or after this time"),
        (counts.malformed, "lines are cut, damaged or of another format and are skipped"),
        (counts.incomplete, "access lines have no total_us and are skipped"),
        (counts.too_long, "lines are longer than 1 MiB and are skipped"),
        (incident.events_left_out, "further events are left out"),
        (
            incident.warnings_left_out,
            "further warnings are left out: a message has at most 200, all have at most 2,000",
        ),
    ];
    for (count, note) in notes.into_iter().filter(|(count, _)| *count > 0) {
        let _ = writeln!(text, "  {count} {note}");
    }
    for problem in &incident.problems {
        let _ = writeln!(text, "  {}: {}", escape_controls(&problem.log), problem.problem);
    }
    text.push_str("\ntimeline\n");
    if incident.events.is_empty() {
        text.push_str("  no causes, transitions, refusals or warnings\n");
    }
    for event in &incident.events {
        let _ = writeln!(text, "  {} {:<11}{}", event.at, event.kind.as_str(), escape_controls(&event.text));
    }
    if !incident.refusals.is_empty() {
        text.push_str("\nrefusals\n");
        let _ =
            writeln!(text, "  {:<32}{:<28}{:>9}{:>12}  first, last", "bucket", "reason", "count", "in 10 s");
    }
    for row in &incident.refusals {
        let bucket = escape_controls(row.bucket.as_deref().unwrap_or("(none)"));
        let reason = escape_controls(&row.reason);
        let _ = writeln!(
            text,
            "  {bucket:<32}{reason:<28}{:>9}{:>12}  {}, {}",
            row.count, row.peak, row.first, row.last
        );
    }
    if !incident.other_reasons.is_empty() {
        text.push_str("\nother reasons: failed calls, broken transfers, connections without an answer\n");
    }
    for (reason, count) in &incident.other_reasons {
        let _ = writeln!(text, "  {:<60}{count:>9}", escape_controls(reason));
    }
    if !incident.clients.is_empty() {
        let _ = writeln!(text, "\n{:<42}{:>11}{:>11}", "clients", "requests", "refused");
    }
    for client in &incident.clients {
        let _ = writeln!(
            text,
            "  {:<40}{:>11}{:>11}",
            escape_controls(&client.client),
            client.requests,
            client.refused
        );
    }
    text
}
