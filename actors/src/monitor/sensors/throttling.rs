//! The share of the time in which a CPU quota held the process (`cpu.max` and `cpu.stat` of cgroup-v2.rst, cgroup-v1/cpu.rst).
//!
//! Every level of the hierarchy may have a quota; the one that holds the process longest counts. The kernel adds the throttled time of all
//! processors, so it is divided by the number of those that the process uses.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::monitor::measurement::{LimitSource, Measurement, Subject};
use crate::monitor::sensors::cgroup_membership::CgroupVersion;
use crate::monitor::sensors::cpu::ALL_OF_THE_TIME;
use crate::monitor::sensors::fields::number;
use crate::persistent_file::{PersistentFile, read_once};

/// The share is smoothed over this time.
const SMOOTHED_OVER: Duration = Duration::from_secs(1);

/// The throttling at all levels.
#[derive(Debug)]
pub(crate) struct Throttling {
    levels: Vec<QuotaLevel>,
    processors: u64,
}

/// One level of the hierarchy. Its statistics stay open if it has a quota.
#[derive(Debug)]
pub(crate) struct QuotaLevel {
    version: CgroupVersion,
    quota: PathBuf,
    stat: PersistentFile,
    has_quota: bool,
    share: SmoothedShare,
}

impl Throttling {
    pub(crate) fn new(levels: Vec<QuotaLevel>) -> Self {
        Self { levels, processors: 1 }
    }

    /// Finds the quotas again, and the number of processors, which follows them. Called from time to time, because it reads many files.
    pub(crate) fn find_quotas(&mut self) -> io::Result<()> {
        self.processors =
            std::thread::available_parallelism().map_or(1, |count| u64::try_from(count.get()).unwrap_or(1));
        self.levels.iter_mut().try_for_each(QuotaLevel::find_quota)
    }

    /// The highest share of all levels with a quota.
    pub(crate) fn read(&mut self, now: Instant) -> io::Result<Measurement> {
        let mut highest: Option<(u64, CgroupVersion)> = None;
        for level in &mut self.levels {
            let Some(percent) = level.read(self.processors, now)? else { continue };
            if highest.is_none_or(|(other, _)| percent > other) {
                highest = Some((percent, level.version));
            }
        }
        let Some((percent, version)) = highest else {
            return Ok(Measurement::absent("no cgroup of the process has a CPU quota"));
        };
        let quota = match version {
            CgroupVersion::V1 => "cgroup v1: cpu.cfs_quota_us",
            CgroupVersion::V2 => "cgroup v2: cpu.max",
        };
        let measured = Measurement::known(percent, ALL_OF_THE_TIME, LimitSource::AllOfTheTime);
        Ok(measured.about(Some(Subject::File(quota))))
    }
}

impl QuotaLevel {
    pub(crate) fn new(version: CgroupVersion, directory: &Path) -> Self {
        let quota = match version {
            CgroupVersion::V1 => "cpu.cfs_quota_us",
            CgroupVersion::V2 => "cpu.max",
        };
        Self {
            version,
            quota: directory.join(quota),
            stat: PersistentFile::new(directory.join("cpu.stat")),
            has_quota: false,
            share: SmoothedShare::default(),
        }
    }

    fn find_quota(&mut self) -> io::Result<()> {
        let quota = read_once(&self.quota)?;
        self.has_quota =
            quota.map_or(Ok(false), |text| has_quota(&text).ok_or(io::ErrorKind::InvalidData))?;
        Ok(())
    }

    /// The smoothed share in percent; none without a quota.
    fn read(&mut self, processors: u64, now: Instant) -> io::Result<Option<u64>> {
        let stat = if self.has_quota { self.stat.read_if_present()? } else { None };
        let Some(stat) = stat else {
            self.share = SmoothedShare::default();
            return Ok(None);
        };
        let throttled = throttled_micros(self.version, &stat).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Some(self.share.sample(throttled / processors.max(1), now)))
    }
}

/// Whether the file has a quota: version 1 writes -1 and version 2 `max` for none. None if the text is malformed.
fn has_quota(text: &str) -> Option<bool> {
    match text.split_whitespace().next()? {
        "max" | "-1" => Some(false),
        quota => quota.parse().ok().map(|_: u64| true),
    }
}

fn throttled_micros(version: CgroupVersion, stat: &str) -> Option<u64> {
    match version {
        CgroupVersion::V1 => number(stat, "throttled_time").map(|nanos| nanos / 1000),
        CgroupVersion::V2 => number(stat, "throttled_usec"),
    }
}

/// A share of the time, from a counter of microseconds: an exponential average.
#[derive(Debug, Default)]
struct SmoothedShare {
    last: Option<(u64, Instant)>,
    share: f64,
}

impl SmoothedShare {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 0 and 100")]
    fn percent(&self) -> u64 {
        (self.share * 100.0).round() as u64
    }

    /// The share in percent after a sample of the counter.
    fn sample(&mut self, micros: u64, now: Instant) -> u64 {
        if let Some((last, at)) = self.last {
            let passed = now.saturating_duration_since(at);
            if passed.is_zero() {
                return self.percent();
            }
            // A counter that falls is that of another cgroup.
            let throttled = Duration::from_micros(micros.saturating_sub(last));
            let share = (throttled.as_secs_f64() / passed.as_secs_f64()).min(1.0);
            let weight = passed.as_secs_f64() / (passed + SMOOTHED_OVER).as_secs_f64();
            self.share += (share - self.share) * weight;
        }
        self.last = Some((micros, now));
        self.percent()
    }
}

#[cfg(test)]
#[path = "throttling_tests.rs"]
mod tests;
