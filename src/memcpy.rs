//! Makes glibc's `memcpy` avoid `rep movsb` on processors where it is slow, by executing the program again.
//!
//! On AMD's Zen 3 and later, `rep movsb` takes up to 16 times as long when the destination is 1 to 15 bytes after the
//! source within a page. glibc before 2.39 uses it even then, for every copy over 2 KiB (sourceware bug 30994). This
//! case is common in a proxy: buffers begin at a page, and the head that it writes is nearly as long as the head that
//! it read. glibc reads its tunables from the environment only at the start of a program, so the program is executed
//! again (`relaunch.rs`) with a threshold above any copy. If a newer glibc has the same default, nothing changes. A
//! tunable that the operator has set is kept.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;

/// The variable with glibc's tunables.
pub(crate) const TUNABLES: &str = "GLIBC_TUNABLES";
const THRESHOLD: &str = "glibc.cpu.x86_rep_movsb_threshold";
/// Larger than any copy.
const OUT_OF_REACH: &str = "1073741824";

/// The tunables that the program should have been started with; `None` if it was started with them.
pub(crate) fn tunables() -> Option<OsString> {
    let tunables = with_threshold(env::var_os(TUNABLES).as_deref())?;
    fs::read_to_string("/proc/cpuinfo").is_ok_and(|cpus| is_slow(&cpus)).then_some(tunables)
}

/// The tunables with the threshold added; `None` if it is set already.
fn with_threshold(tunables: Option<&OsStr>) -> Option<OsString> {
    let entry = format!("{THRESHOLD}={OUT_OF_REACH}");
    match tunables.filter(|tunables| !tunables.is_empty()) {
        None => Some(entry.into()),
        Some(tunables) if tunables.to_string_lossy().contains(THRESHOLD) => None,
        Some(tunables) => {
            let mut all = tunables.to_owned();
            all.push(":");
            all.push(entry);
            Some(all)
        }
    }
}

/// AMD with fast short `rep movsb` (flag `fsrm`): glibc lowers its threshold for that flag.
fn is_slow(cpus: &str) -> bool {
    let line = |name: &str| cpus.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line("vendor_id").ends_with("AuthenticAMD") && line("flags").split(' ').any(|flag| flag == "fsrm")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_tunables_stay_and_the_threshold_is_set_once() {
        let first = with_threshold(None).unwrap();
        assert_eq!(first, "glibc.cpu.x86_rep_movsb_threshold=1073741824");
        assert_eq!(with_threshold(Some(&first)), None, "the second start does not start again");
        let both = with_threshold(Some(OsStr::new("glibc.malloc.check=1"))).unwrap();
        assert_eq!(both, "glibc.malloc.check=1:glibc.cpu.x86_rep_movsb_threshold=1073741824");
        assert_eq!(with_threshold(Some(&both)), None);
        assert_eq!(with_threshold(Some(OsStr::new("glibc.cpu.x86_rep_movsb_threshold=4096"))), None);
    }

    #[test]
    fn only_processors_with_the_slow_case_match() {
        let amd = "vendor_id\t: AuthenticAMD\nflags\t\t: fpu erms fsrm\n";
        assert!(is_slow(amd));
        assert!(!is_slow(&amd.replace("AMD", "Intel")));
        assert!(!is_slow(&amd.replace("fsrm", "sse")));
        assert!(!is_slow("processor : 0\nBogoMIPS : 50\n"));
    }
}
