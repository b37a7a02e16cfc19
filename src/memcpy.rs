//! Keeps glibc's `memcpy` off `rep movsb` on processors where that is slow, by starting the program once more.
//!
//! On AMD's Zen 3 and later, `rep movsb` takes up to 16 times as long when the destination lies 1 to 15 bytes behind the
//! source within a page. glibc before 2.39 uses it there all the same, for every copy over 2 KiB (sourceware bug 30994).
//! A proxy meets the case all the time: buffers begin at a page, and the head that it writes is nearly as long
//! as the head that it read. glibc takes its tunables from the environment of a starting program only, so the program is
//! executed again (`relaunch.rs`) with the threshold out of reach. Where a newer glibc has the same default, it changes
//! nothing; whoever sets the tunable is left alone.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;

/// The variable that glibc takes its tunables from.
pub(crate) const TUNABLES: &str = "GLIBC_TUNABLES";
const THRESHOLD: &str = "glibc.cpu.x86_rep_movsb_threshold";
/// Larger than any copy.
const OUT_OF_REACH: &str = "1073741824";

/// The tunables that the program should have been started with; none if it was.
pub(crate) fn tunables() -> Option<OsString> {
    let settled = with_threshold(env::var_os(TUNABLES).as_deref())?;
    fs::read_to_string("/proc/cpuinfo").is_ok_and(|cpus| is_slow(&cpus)).then_some(settled)
}

/// The tunables with the threshold among them, unless it is there already.
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

/// AMD with fast short `rep movsb`: glibc lowers its threshold for that flag.
fn is_slow(cpus: &str) -> bool {
    let line = |name: &str| cpus.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line("vendor_id").ends_with("AuthenticAMD") && line("flags").split(' ').any(|flag| flag == "fsrm")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_tuned_stays_and_the_threshold_is_set_once() {
        let first = with_threshold(None).unwrap();
        assert_eq!(first, "glibc.cpu.x86_rep_movsb_threshold=1073741824");
        assert_eq!(with_threshold(Some(&first)), None, "started again, it does not start again");
        let both = with_threshold(Some(OsStr::new("glibc.malloc.check=1"))).unwrap();
        assert_eq!(both, "glibc.malloc.check=1:glibc.cpu.x86_rep_movsb_threshold=1073741824");
        assert_eq!(with_threshold(Some(&both)), None);
        assert_eq!(with_threshold(Some(OsStr::new("glibc.cpu.x86_rep_movsb_threshold=4096"))), None);
    }

    #[test]
    fn only_the_processors_with_the_slow_case_are_meant() {
        let amd = "vendor_id\t: AuthenticAMD\nflags\t\t: fpu erms fsrm\n";
        assert!(is_slow(amd));
        assert!(!is_slow(&amd.replace("AMD", "Intel")));
        assert!(!is_slow(&amd.replace("fsrm", "sse")));
        assert!(!is_slow("processor : 0\nBogoMIPS : 50\n"));
    }
}
