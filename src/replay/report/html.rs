//! The report as one HTML page without scripts and without anything from elsewhere. Names of the log are escaped.

use std::fmt::Write as _;

use crate::plots::{self as page_text, figure};
use crate::replay::report::side::SideTable;
use crate::replay::report::{Report, SideCounts, plots};
use crate::telemetry::escape_controls;

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem}\
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}\
.wide{overflow-x:auto}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums}\
caption{text-align:left;font-weight:600;padding:.3rem 0}\
th,td{padding:.2rem .7rem;border-bottom:1px solid color-mix(in srgb,currentColor 25%,transparent);text-align:right}\
th:first-child,td:first-child{text-align:left}\
li{margin:.2rem 0}\
figure{margin:1rem 0;max-width:48rem}.plot{width:100%;height:auto}\
@media(prefers-color-scheme:dark){\
.plot-text{fill:#a9b4bc}.plot-grid{stroke:#2b353c}.plot-area{fill:#1d3347}\
polyline.plot-line-0{stroke:#6fb1ee}text.plot-line-0{fill:#6fb1ee}\
polyline.plot-line-1{stroke:#e0a85a}text.plot-line-1{fill:#e0a85a}\
polyline.plot-line-2{stroke:#7fcf9c}text.plot-line-2{fill:#7fcf9c}}";

/// The page.
#[must_use]
pub fn render(report: &Report) -> String {
    let mut page = String::from(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>tidegate simulate</title>\n<style>",
    );
    page.push_str(STYLE);
    page.push_str("</style>\n</head>\n<body>\n<main>\n<h1>tidegate simulate</h1>\n");
    write_log(&mut page, report);
    page.push_str("<h2>All requests</h2>\n");
    write_sides(&mut page, "What happened to all requests", &report.all);
    write_list(&mut page, &report.changes());
    page.push_str("<h2>Over time</h2>\n");
    write_over_time(&mut page, report);
    page.push_str("<h2>Buckets</h2>\n");
    for bucket in &report.buckets {
        write_sides(
            &mut page,
            bucket.bucket.as_deref().unwrap_or("requests without a bucket"),
            &bucket.sides,
        );
    }
    write_clients(&mut page, report);
    write_circuits(&mut page, report);
    write_suggestions(&mut page, report);
    page.push_str("<h2>Not simulated</h2>\n");
    write_list(&mut page, &report.not_simulated);
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

/// A text for the page. Characters that would reorder the text around them are shown as escapes.
fn escape(text: &str) -> String {
    page_text::escape(&escape_controls(text))
}

/// A table; the first column of each row is its title.
fn write_table(
    page: &mut String,
    caption: &str,
    titles: &[&str],
    rows: impl IntoIterator<Item = Vec<String>>,
) {
    let _ = write!(page, "<div class=\"wide\"><table><caption>{}</caption>\n<thead><tr>", escape(caption));
    for title in titles {
        let _ = write!(page, "<th scope=\"col\">{}</th>", escape(title));
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        page.push_str("<tr>");
        for (at, cell) in row.iter().enumerate() {
            let cell = escape(cell);
            let _ = match at {
                0 => write!(page, "<th scope=\"row\">{cell}</th>"),
                _ => write!(page, "<td>{cell}</td>"),
            };
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody></table></div>\n");
}

fn write_list(page: &mut String, sentences: &[String]) {
    page.push_str("<ul>\n");
    for sentence in sentences {
        let _ = writeln!(page, "<li>{}</li>", escape(sentence));
    }
    page.push_str("</ul>\n");
}

fn write_log(page: &mut String, report: &Report) {
    let log = &report.log;
    let _ = writeln!(
        page,
        "<p>{} requests in {} lines from {} to {}.</p>",
        log.counts.requests, log.counts.lines, log.begin, log.end
    );
    write_list(page, &log.notes());
}

fn write_sides(page: &mut String, caption: &str, sides: &[SideCounts]) {
    let SideTable { titles, rows } = SideTable::new(sides);
    let titles: Vec<&str> = std::iter::once("").chain(titles).collect();
    let rows = rows.into_iter().map(|(title, cells)| std::iter::once(title).chain(cells).collect());
    write_table(page, caption, &titles, rows);
}

/// The figures over time, as plots with their tables.
fn write_over_time(page: &mut String, report: &Report) {
    let _ = writeln!(page, "<p>Requests by their start, in intervals of {} s.</p>", report.timeline_width_s);
    for plot in plots::over_time(report) {
        match figure(&plot) {
            Ok(figure) => page.push_str(&figure),
            Err(error) => {
                let _ = writeln!(
                    page,
                    "<p>{} cannot be drawn: {}</p>",
                    escape(&plot.title),
                    escape(&error.to_string())
                );
            }
        }
    }
}

fn write_clients(page: &mut String, report: &Report) {
    page.push_str("<h2>Clients</h2>\n");
    let titles = ["client", "requests", "refused by the log", "refused by new"];
    let rows = report.clients.iter().map(|client| {
        let numbers = [client.requests, client.refused_by_log, client.refused_by_new];
        std::iter::once(client.client.clone()).chain(numbers.iter().map(u64::to_string)).collect()
    });
    write_table(page, "The clients with the most refusals", &titles, rows);
}

fn write_circuits(page: &mut String, report: &Report) {
    if report.circuits.is_empty() {
        return;
    }
    page.push_str("<h2>Circuits</h2>\n");
    let caption =
        format!("The first {} of {} changes with new", report.circuits.len(), report.circuits_total);
    let rows = report.circuits.iter().map(|change| {
        vec![change.at.clone(), change.bucket.clone(), change.class.to_owned(), change.state.to_owned()]
    });
    write_table(page, &caption, &["time", "bucket", "class", "state"], rows);
}

fn write_suggestions(page: &mut String, report: &Report) {
    let Some(suggestions) = &report.suggestions else { return };
    page.push_str("<h2>Suggested limits</h2>\n");
    let rows = suggestions.iter().map(|suggestion| {
        let burst = suggestion.burst.map_or_else(String::new, |burst| burst.to_string());
        vec![suggestion.key.clone(), suggestion.value.to_string(), burst, suggestion.refused.to_string()]
    });
    let caption =
        "The tightest limits that would have refused at most 0.1 % of these requests, each by itself";
    write_table(page, caption, &["key", "value", "burst", "refused"], rows);
}
