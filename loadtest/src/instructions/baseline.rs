//! The recorded counts, by version of the compiler: another compiler makes another program.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

/// A count may be this much above its baseline.
const TOLERANCE_PERCENT: u64 = 5;
/// A count of a compiler without a baseline may be this much above that of the newest recorded one. So a newer compiler passes, and the
/// check still fails.
const OTHER_COMPILER_TOLERANCE_PERCENT: u64 = 15;

/// Counts by name, such as `guarded`.
type Counts = BTreeMap<String, u64>;

/// The recorded counts that apply to one compiler.
pub(super) struct Baseline {
    compiler: String,
    /// The compiler of the counts: the same, or the newest recorded one.
    recorded_for: String,
    counts: Counts,
}

/// The judgement of all counts.
pub(super) struct Judgement {
    pub(super) held: bool,
    pub(super) text: String,
}

impl Baseline {
    /// Reads the file, and the version of the compiler on the PATH.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let output = Command::new("rustc").arg("--version").output()?;
        let version = String::from_utf8_lossy(&output.stdout);
        let compiler = version.split(' ').nth(1).unwrap_or_default().to_owned();
        Self::parse(&fs::read_to_string(path)?, compiler)
    }

    fn parse(text: &str, compiler: String) -> io::Result<Self> {
        let mut all: BTreeMap<String, Counts> = toml::from_str(text).map_err(io::Error::other)?;
        let newest = || all.keys().max_by_key(|version| numbers(version)).cloned().unwrap_or_default();
        let recorded_for = if all.contains_key(&compiler) { compiler.clone() } else { newest() };
        let counts = all.remove(&recorded_for).unwrap_or_default();
        Ok(Self { compiler, recorded_for, counts })
    }

    /// Compares counts with the recorded ones. A count that is not recorded is a failure.
    pub(super) fn judge(&self, counts: &[(&str, u64)]) -> Judgement {
        let Self { compiler, recorded_for, .. } = self;
        let is_own = compiler == recorded_for;
        let tolerance = if is_own { TOLERANCE_PERCENT } else { OTHER_COMPILER_TOLERANCE_PERCENT };
        let (mut held, mut text) = (true, String::new());
        if !is_own {
            let _ = writeln!(
                text,
                "NO BASELINE for rustc {compiler}: compared with that of rustc {recorded_for}, with +{tolerance} %. Record the counts \
                 under [\"{compiler}\"]"
            );
        }
        for &(name, count) in counts {
            let (is_held, line) = match self.counts.get(name) {
                Some(&recorded) => compare(name, count, recorded, tolerance),
                None => {
                    (false, format!("MISSED {name}: {count}; no baseline: record it under [\"{compiler}\"]"))
                }
            };
            held &= is_held;
            let _ = writeln!(text, "{line}");
        }
        if !held {
            let _ = writeln!(
                text,
                "Find what the change costs with callgrind_annotate. If the cost is meant, change the baseline in the commit that \
                 explains it"
            );
        }
        Judgement { held, text }
    }
}

fn compare(name: &str, count: u64, recorded: u64, tolerance: u64) -> (bool, String) {
    let is_held = count * 100 <= recorded * (100 + tolerance);
    let is_low = count * 100 < recorded * (100 - TOLERANCE_PERCENT);
    let percent = 100.0 * (count as f64 / recorded as f64 - 1.0);
    let verdict = if is_held { "held  " } else { "MISSED" };
    let hint = if is_low { "; lower the baseline" } else { "" };
    (
        is_held,
        format!("{verdict} {name}: {count}, {percent:+.1} % (at most +{tolerance} % of {recorded}){hint}"),
    )
}

/// The numbers of a version, for the order of versions.
fn numbers(version: &str) -> Vec<u64> {
    version.split(['.', '-']).map_while(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rise_above_the_tolerance_and_a_missing_baseline_fail() {
        let baseline =
            |compiler: &str| Baseline::parse("[\"1.95.0\"]\nguarded = 1000\n", compiler.to_owned()).unwrap();
        let judge = |count| baseline("1.95.0").judge(&[("guarded", count)]);
        assert!(judge(1_050).held);
        assert!(!judge(1_051).held);
        let lower = judge(900);
        assert!(
            lower.held && lower.text.contains("-10.0 %") && lower.text.contains("lower the baseline"),
            "{}",
            lower.text
        );
        let missing = baseline("1.95.0").judge(&[("raw", 1)]);
        assert!(!missing.held && missing.text.contains("no baseline"), "{}", missing.text);
    }

    #[test]
    fn another_compiler_is_judged_by_the_newest_recorded_one() {
        let text = "[\"1.100.0\"]\nguarded = 1000\n[\"1.95.0\"]\nguarded = 1\n";
        let baseline = Baseline::parse(text, "1.101.0-beta.1".to_owned()).unwrap();
        let held = baseline.judge(&[("guarded", 1_150)]);
        assert!(held.held && held.text.contains("NO BASELINE for rustc 1.101.0-beta.1"), "{}", held.text);
        assert!(held.text.contains("rustc 1.100.0, with +15 %"), "{}", held.text);
        assert!(!baseline.judge(&[("guarded", 1_151)]).held);
        let empty = Baseline::parse("", "1.101.0".to_owned()).unwrap();
        assert!(!empty.judge(&[("guarded", 1)]).held);
    }
}
