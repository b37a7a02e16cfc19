//! The recorded counts, by version of the compiler: another compiler makes another program.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

/// A count may be this much above its baseline. Counts of one program vary by 1 %.
const TOLERANCE_PERCENT: u64 = 5;

/// Counts by name, such as `guarded`.
type Counts = BTreeMap<String, u64>;

/// The recorded counts of one compiler.
pub(super) struct Baseline {
    compiler: String,
    counts: Option<Counts>,
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
        Ok(Self { counts: all.remove(&compiler), compiler })
    }

    /// Compares counts with the recorded ones. A count that is not recorded is a failure.
    pub(super) fn judge(&self, counts: &[(&str, u64)]) -> Judgement {
        let (mut held, mut text) = (true, String::new());
        for &(name, count) in counts {
            let recorded = self.counts.as_ref().and_then(|counts| counts.get(name)).copied();
            let line = match recorded {
                Some(recorded) => {
                    let is_held = count * 100 <= recorded * (100 + TOLERANCE_PERCENT);
                    let is_low = count * 100 < recorded * (100 - TOLERANCE_PERCENT);
                    let percent = 100.0 * (count as f64 / recorded as f64 - 1.0);
                    held &= is_held;
                    let verdict = if is_held { "held  " } else { "MISSED" };
                    let hint = if is_low { "; lower the baseline" } else { "" };
                    format!(
                        "{verdict} {name}: {count}, {percent:+.1} % (at most +{TOLERANCE_PERCENT} % of {recorded}){hint}"
                    )
                }
                None => {
                    held = false;
                    let compiler = &self.compiler;
                    format!("MISSED {name}: {count}; no baseline for rustc {compiler}: add it to the file")
                }
            };
            let _ = writeln!(text, "{line}");
        }
        Judgement { held, text }
    }
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
        let unknown = baseline("1.96.0").judge(&[("guarded", 1)]);
        assert!(!unknown.held && unknown.text.contains("no baseline for rustc 1.96.0"), "{}", unknown.text);
        assert!(!baseline("1.95.0").judge(&[("raw", 1)]).held);
    }
}
