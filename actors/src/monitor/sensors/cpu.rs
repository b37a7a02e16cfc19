//! CPU: pressure of the process's cgroup or of the host, and throttling by the quota of a cgroup.
//!
//! Pressure is the share of the last ten seconds in which a runnable task waited for a processor ("some avg10",
//! `Documentation/accounting/psi.rst`). It is high on every busy host, so it causes a level only with `monitor.cpu_pressure_limit`.
//! `throttling.rs` measures what the quota costs.

use std::io;
use std::time::{Duration, Instant};

use crate::monitor::measurement::{LimitSource, Measurement, Subject};
use crate::monitor::sensors::cgroup_membership::{CgroupMembership, Controller};
use crate::monitor::sensors::throttling::{QuotaLevel, Throttling};
use crate::persistent_file::{PersistentFile, read_once};

/// Time between two searches for another cgroup or another quota.
const FIND_EVERY: Duration = Duration::from_secs(10);
/// A share of the time is given in percent.
pub(crate) const ALL_OF_THE_TIME: u64 = 100;

/// Both sensors of the CPU.
#[derive(Debug)]
pub(crate) struct CpuSensors {
    /// `monitor.cpu_pressure_limit`, in percent.
    pressure_limit: Option<u8>,
    found: Option<Instant>,
    /// `/proc/self/cgroup` when the files were found.
    cgroup_text: Option<String>,
    own_pressure: Option<PersistentFile>,
    host_pressure: PersistentFile,
    throttling: Throttling,
}

impl CpuSensors {
    pub(crate) fn new(pressure_limit: Option<u8>) -> Self {
        Self {
            pressure_limit,
            found: None,
            cgroup_text: None,
            own_pressure: None,
            host_pressure: PersistentFile::new("/proc/pressure/cpu"),
            throttling: Throttling::new(Vec::new()),
        }
    }

    /// Sets `monitor.cpu_pressure_limit`.
    pub(crate) fn set_pressure_limit(&mut self, pressure_limit: Option<u8>) {
        self.pressure_limit = pressure_limit;
    }

    /// Reads the pressure and the throttling.
    pub(crate) fn read(&mut self, now: Instant) -> (Measurement, Measurement) {
        if self.found.is_none_or(|found| now.saturating_duration_since(found) >= FIND_EVERY) {
            if self.find_cgroups().and_then(|()| self.throttling.find_quotas()).is_err() {
                return (Measurement::UNKNOWN, Measurement::UNKNOWN);
            }
            self.found = Some(now);
        }
        let pressure = self.read_pressure().unwrap_or(Measurement::UNKNOWN);
        let throttled = self.throttling.read(now).unwrap_or(Measurement::UNKNOWN);
        (pressure, throttled)
    }

    /// Opens the files of the process's cgroups, again if the process was moved.
    fn find_cgroups(&mut self) -> io::Result<()> {
        let text = read_once("/proc/self/cgroup")?;
        if self.found.is_some() && text == self.cgroup_text {
            return Ok(());
        }
        let mountinfo = read_once("/proc/self/mountinfo")?.unwrap_or_default();
        let find = |controller| CgroupMembership::find(controller, text.as_deref()?, &mountinfo);
        let own = find(Controller::Unified).and_then(|unified| unified.directories.into_iter().next());
        self.own_pressure = own.map(|own| PersistentFile::new(own.join("cpu.pressure")));
        self.throttling = Throttling::new(find(Controller::Cpu).into_iter().flat_map(levels).collect());
        self.cgroup_text = text;
        Ok(())
    }

    fn read_pressure(&mut self) -> io::Result<Measurement> {
        let own = match &mut self.own_pressure {
            Some(file) => read_supported(file)?,
            None => None,
        };
        let (text, file) = match own {
            Some(text) => (text, "cgroup v2: cpu.pressure"),
            None => match read_supported(&mut self.host_pressure)? {
                Some(text) => (text, "/proc/pressure/cpu"),
                None => return Ok(Measurement::absent("the kernel does not measure CPU pressure")),
            },
        };
        let used = some_avg10(&text).ok_or(io::ErrorKind::InvalidData)?;
        let measured = match self.pressure_limit {
            Some(limit) => Measurement::known(used, limit.into(), LimitSource::PressureKey),
            None => Measurement::known(used, ALL_OF_THE_TIME, LimitSource::AllOfTheTime),
        };
        Ok(measured.about(Some(Subject::File(file))))
    }
}

fn levels(CgroupMembership { version, directories }: CgroupMembership) -> impl Iterator<Item = QuotaLevel> {
    directories.into_iter().map(move |directory| QuotaLevel::new(version, &directory))
}

/// The content; none if the file does not exist, may not be read, or the kernel was started without pressure stall information.
fn read_supported(file: &mut PersistentFile) -> io::Result<Option<String>> {
    match file.read_if_present() {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(None),
        result => result,
    }
}

/// `avg10` of the line `some`, in whole percent; none if it is malformed.
fn some_avg10(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let avg10 = line.split(' ').find_map(|field| field.strip_prefix("avg10="))?;
    let (whole, part) = avg10.split_once('.').unwrap_or((avg10, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let percent: u64 = whole.parse().ok().filter(|percent| *percent <= ALL_OF_THE_TIME)?;
    (is_number(whole) && is_number(part)).then_some(percent)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// X1: files of Linux 6.18 and 5.4
    #[test]
    fn some_of_the_last_ten_seconds_is_read() {
        let text = "some avg10=96.19 avg60=57.38 avg300=25.90 total=23768183730\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
        assert_eq!(some_avg10(text), Some(96));
        assert_eq!(some_avg10("some avg10=0.00 avg60=0.06 avg300=0.28 total=1\n"), Some(0));
        assert_eq!(some_avg10("some avg10=100.00 avg60=1.00 avg300=1.00 total=1\n"), Some(100));
    }

    /// X4
    #[test]
    fn malformed_pressure_is_unknown() {
        for text in ["", "some", "full avg10=1.00\n", "some avg60=1.00\n", "some avg10=\n", "some avg10=x\n"]
        {
            assert_eq!(some_avg10(text), None, "{text:?}");
        }
        for number in ["101.00", "-1.00", "NaN", "inf", "1e1", "+5", "1.", "1.x"] {
            assert_eq!(some_avg10(&format!("some avg10={number} avg60=0.00\n")), None, "{number}");
        }
    }

    /// X1, X4: on this system the pressure is known or absent, and never a fault
    #[cfg(target_os = "linux")]
    #[test]
    fn the_pressure_of_this_system_is_read() {
        use crate::monitor::reading::Reading;

        let now = crate::clock::now();
        let of = |limit: Option<u8>| CpuSensors::new(limit).read(now).0.reading;
        for (limit, expected) in [(None, 100), (Some(40), 40)] {
            match of(limit) {
                Reading::Known { used, limit } => assert!(used <= 100 && limit == expected),
                Reading::Absent(_) => {}
                Reading::Unknown => panic!("the sensor failed"),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        /// X4: any content is read without a panic
        #[test]
        fn any_pressure_is_read(text in "(some |full )?(avg10=)?[0-9.eE+-]{0,12}.{0,8}") {
            prop_assert!(some_avg10(&text).is_none_or(|percent| percent <= 100));
        }
    }
}
