//! The comparison as Markdown: one table per workload, with medians over the valid rounds and ratios to the best.

use std::collections::BTreeSet;

use super::Round;
use super::workload::{ALL, Workload};
use crate::report::number;
use crate::statistics::median;

struct Column {
    title: &'static str,
    statistic: &'static str,
    best: Option<Best>,
}

#[derive(Clone, Copy)]
enum Best {
    Lowest,
    Highest,
}

const fn column(title: &'static str, statistic: &'static str, best: Option<Best>) -> Column {
    Column { title, statistic, best }
}

const ORDINARY: [Column; 6] = [
    column("requests/s", "goodput_per_s", Some(Best::Highest)),
    column("CPU µs/request", "cpu_us", Some(Best::Lowest)),
    column("p50 ms", "p50_ms", None),
    column("p99 ms", "p99_ms", Some(Best::Lowest)),
    column("not 2xx", "lost", None),
    column("RSS MiB", "rss_mib", None),
];
const OVERLOAD: [Column; 6] = [
    column("goodput/s", "goodput_per_s", Some(Best::Highest)),
    column("accepted p99 ms", "p99_ms", Some(Best::Lowest)),
    column("refused p99 ms", "refused_p99_ms", Some(Best::Lowest)),
    column("upstream peak", "upstream_peak", None),
    column("CPU µs/request", "cpu_us", Some(Best::Lowest)),
    column("errors", "errors", None),
];

/// All tables.
pub(crate) fn markdown(results: &[Round]) -> String {
    ALL.iter().filter_map(|workload| table(workload, results)).collect::<Vec<_>>().join("\n")
}

fn table(workload: &Workload, results: &[Round]) -> Option<String> {
    let rounds: Vec<_> = results.iter().filter(|round| round.workload == workload.name).collect();
    let proxies: BTreeSet<_> = rounds.iter().map(|round| round.proxy.as_str()).collect();
    let discarded = rounds.iter().filter(|round| !round.counts).count();
    let columns = if workload.is_overload() { &OVERLOAD } else { &ORDINARY };
    let titles: String = columns.iter().map(|column| format!(" {} |", column.title)).collect();
    let mut text = format!("**{}**: {}\n\n", workload.name, workload.about);
    text.push_str(&format!("| proxy | rounds |{titles}\n|---|---:|{}\n", "---:|".repeat(columns.len())));
    for proxy in &proxies {
        let counted = rounds.iter().filter(|round| round.counts && round.proxy == *proxy).count();
        let cells: String =
            columns.iter().map(|column| format!(" {} |", column.cell(&rounds, proxy, &proxies))).collect();
        text.push_str(&format!("| {proxy} | {counted} |{cells}\n"));
    }
    if discarded > 0 {
        text.push_str(&format!(
            "\n{discarded} of {} measurements were discarded: unrelated processes were busy.\n",
            rounds.len()
        ));
    }
    (!rounds.is_empty()).then_some(text)
}

impl Column {
    fn value(&self, rounds: &[&Round], proxy: &str) -> Option<f64> {
        let counted = rounds.iter().filter(|round| round.counts && round.proxy == proxy);
        median(&counted.filter_map(|round| round.statistics.value(self.statistic)).collect::<Vec<_>>())
    }

    fn cell(&self, rounds: &[&Round], proxy: &str, proxies: &BTreeSet<&str>) -> String {
        let Some(value) = self.value(rounds, proxy) else {
            return "-".to_owned();
        };
        let all = proxies.iter().filter_map(|proxy| self.value(rounds, proxy));
        let best = self.best.and_then(|best| match best {
            Best::Lowest => all.reduce(f64::min),
            Best::Highest => all.reduce(f64::max),
        });
        match best {
            Some(best) if best > 0.0 => format!("{} ({:.2}×)", number(value), value / best),
            _ => number(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::Statistics;

    fn round(proxy: &str, counts: bool, cpu_us: f64) -> Round {
        let mut statistics = Statistics::default();
        statistics.set("cpu_us", cpu_us);
        Round { workload: "steady".to_owned(), proxy: proxy.to_owned(), other_cores: 0.0, counts, statistics }
    }

    #[test]
    fn medians_use_valid_rounds_only_and_ratios_refer_to_the_best() {
        let results = [
            round("a", true, 10.0),
            round("b", true, 20.0),
            round("b", true, 40.0),
            round("b", false, 900.0),
        ];
        let text = markdown(&results);
        assert!(text.contains("| a | 1 | - | 10 (1.00×) |"), "{text}");
        assert!(text.contains("| b | 2 | - | 30 (3.00×) |"), "{text}");
        assert!(text.contains("1 of 4 measurements were discarded"), "{text}");
    }
}
