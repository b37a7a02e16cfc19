//! The table on standard output and the JSON file.

use std::fs::File;
use std::io;
use std::path::Path;

use serde::Serialize;

use crate::run::Findings;
use crate::sampler::Reading;
use crate::scenario::{Scenario, Step};
use crate::statistics::Statistics;

const LOAD_COLUMNS: [&str; 9] =
    ["requests", "ok", "refused", "errors", "goodput_per_s", "p50_ms", "p99_ms", "p999_ms", "refused_p99_ms"];
const PROCESS_ROWS: [&str; 3] = ["rss_mib", "descriptors", "threads"];
/// Additional rows for a gateway in a container.
const CONTAINER_ROWS: [&str; 2] = ["cgroup_mib", "oom_kills"];
/// Above this number of busy cores, latencies and rates of a step are not reliable.
const OTHER_CORES_MAX: f64 = 0.3;

/// Writes the findings of a run or comparison.
pub(crate) fn write_json(path: &Path, findings: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(File::create(path)?, findings).map_err(io::Error::from)
}

/// The run as text.
pub(crate) fn text(scenario: &Scenario, findings: &Findings) -> String {
    let mut lines = vec![format!("{}: {}", findings.scenario, scenario.about), String::new()];
    let mut rows = vec![header("step", "load", &LOAD_COLUMNS)];
    for step in &scenario.steps {
        rows.extend(load_rows(step, &findings.statistics));
    }
    lines.extend(aligned(&rows));
    lines.push(String::new());
    let mut rows = vec![header("step", "gateway", &["min", "median", "max", "last"])];
    for step in &scenario.steps {
        rows.extend(process_rows(step, scenario, &findings.statistics));
    }
    lines.extend(aligned(&rows));
    lines.push(String::new());
    lines.extend(scenario.steps.iter().filter_map(|step| noise_warning(step, &findings.statistics)));
    lines.extend(scenario.steps.iter().filter_map(|step| last_status(step, &findings.readings)));
    for verdict in &findings.verdicts {
        lines.push(format!("{} {}", if verdict.held { "held  " } else { "MISSED" }, verdict.text));
    }
    lines.push(format!(
        "{}: {}",
        findings.scenario,
        if findings.held { "all ranges held" } else { "FAILED" }
    ));
    lines.join("\n")
}

fn header(first: &str, second: &str, columns: &[&str]) -> Vec<String> {
    [first, second].iter().chain(columns).map(|&column| column.to_owned()).collect()
}

fn load_rows(step: &Step, statistics: &Statistics) -> Vec<Vec<String>> {
    let storm = step.storm.is_some().then_some("storm");
    let row = |load: &str| {
        let values =
            LOAD_COLUMNS.iter().map(|column| cell(statistics, &format!("{}.{load}.{column}", step.name)));
        [step.name.clone(), load.to_owned()].into_iter().chain(values).collect()
    };
    let mut rows: Vec<Vec<String>> = step.loads.iter().map(|load| row(&load.name)).collect();
    rows.extend(storm.map(|storm| {
        let of = |name: &str| cell(statistics, &format!("{}.{storm}.{name}", step.name));
        let words = format!(
            "{} crashes, serves again p50 {} p99 {} max {} ms",
            of("crashes"),
            of("serves_again_p50_ms"),
            of("serves_again_p99_ms"),
            of("serves_again_max_ms")
        );
        vec![step.name.clone(), words]
    }));
    rows.extend(step.watchers.iter().map(|group| {
        let of = |name: &str| cell(statistics, &format!("{}.watchers.{}.{name}", step.name, group.name));
        let words = format!(
            "watchers {}: opened {}, not opened {}, dropped {}, samples of each at least {}",
            group.name,
            of("opened"),
            of("not_opened"),
            of("dropped"),
            of("samples_min")
        );
        vec![step.name.clone(), words]
    }));
    rows
}

fn process_rows(step: &Step, scenario: &Scenario, statistics: &Statistics) -> Vec<Vec<String>> {
    let metrics = scenario.metrics.iter().map(|name| format!("metric.{name}"));
    let container = if scenario.container.is_some() { CONTAINER_ROWS.as_slice() } else { &[] };
    let names = PROCESS_ROWS.iter().chain(container).map(|&name| name.to_owned()).chain(metrics);
    names
        .map(|name| {
            let value = |of: &str| cell(statistics, &format!("{}.{name}_{of}", step.name));
            vec![step.name.clone(), name.clone(), value("min"), value("median"), value("max"), value("last")]
        })
        .collect()
}

fn noise_warning(step: &Step, statistics: &Statistics) -> Option<String> {
    let cores = statistics.value(&format!("{}.other_cores", step.name))?;
    (cores > OTHER_CORES_MAX).then(|| {
        format!(
            "note: unrelated processes kept {cores:.1} cores busy during {}: its latencies are not reliable",
            step.name
        )
    })
}

/// The gateway's status at the end of the step.
fn last_status(step: &Step, readings: &[Reading]) -> Option<String> {
    let mut of_step = readings.iter().filter(|reading| reading.step == step.name);
    let status = of_step.next_back()?.status.as_ref()?;
    let summary = if status.answered { status.summary.as_str() } else { "no answer" };
    Some(format!("note: /status at the end of {}: {summary}", step.name))
}

fn cell(statistics: &Statistics, name: &str) -> String {
    statistics.value(name).map_or_else(|| "-".to_owned(), number)
}

/// A number with about three significant digits.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Aligns rows in columns of equal width. The last cell of a short row may be wider.
fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let full = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = rows.iter().filter(|row| row.len() == full).filter_map(|row| row.get(column));
        cells.map(String::len).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..full).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate();
        let padded =
            cells.map(
                |(column, (cell, &width))| {
                    if column < 2 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
                },
            );
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_columns_aligned() {
        assert_eq!([1234.5, 12.34, 0.5, 7.0].map(number), ["1234", "12.3", "0.50", "7"]);
        let rows = [vec!["a", "b", "ms"], vec!["long", "x", "1234"]]
            .map(|row| row.into_iter().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(aligned(&rows), ["a     b    ms", "long  x  1234"]);
    }
}
