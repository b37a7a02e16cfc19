//! Quotas of both versions, and the smoothed share over scripted and random counters.

use proptest::prelude::*;

use super::*;
use crate::clock;
use crate::monitor::reading::Reading;
use crate::monitor::sensors::test_directory::TestDirectory;

fn throttling(version: CgroupVersion, directories: &[&TestDirectory]) -> Throttling {
    let mut sensor = unread(version, directories);
    sensor.find_quotas().unwrap();
    sensor.processors = 1;
    sensor
}

fn unread(version: CgroupVersion, directories: &[&TestDirectory]) -> Throttling {
    let levels = directories.iter().map(|directory| QuotaLevel::new(version, &directory.0)).collect();
    Throttling { levels, processors: 1 }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// The reading after three seconds in which the counter grew by `grown` of 100 ms with each sample.
fn after_three_seconds(mut sensor: Throttling, mut grow: impl FnMut(u64)) -> Measurement {
    let t0 = clock::now();
    let mut last = sensor.read(t0).unwrap();
    for n in 1..=30 {
        grow(n);
        last = sensor.read(t0 + ms(100 * n)).unwrap();
    }
    last
}

/// X1: version 2, `cpu.stat` of Linux 6.1
#[test]
fn the_share_of_version_2_is_smoothed() {
    let stat = |usec: u64| {
        format!(
            "usage_usec 9\nuser_usec 5\nsystem_usec 4\nnr_periods 7\nnr_throttled 3\nthrottled_usec {usec}\nnr_bursts 0\n"
        )
    };
    let directory = TestDirectory::new("quota-v2", &[("cpu.max", "50000 100000\n"), ("cpu.stat", &stat(0))]);
    let found = after_three_seconds(throttling(CgroupVersion::V2, &[&directory]), |n| {
        directory.write("cpu.stat", &stat(n * 90_000));
    });
    let Reading::Known { used, limit: 100 } = found.reading else { panic!("{found:?}") };
    assert!((80..=90).contains(&used), "{used}: 90 % of the time, smoothed over a second");
    assert_eq!(found.limit_source, Some(LimitSource::AllOfTheTime));
    assert_eq!(found.subject, Some(Subject::File("cgroup v2: cpu.max")));
}

/// X1: version 1 counts nanoseconds
#[test]
fn the_share_of_version_1_is_smoothed() {
    let stat = |ns: u64| format!("nr_periods 7\nnr_throttled 3\nthrottled_time {ns}\n");
    let directory =
        TestDirectory::new("quota-v1", &[("cpu.cfs_quota_us", "50000\n"), ("cpu.stat", &stat(0))]);
    let found = after_three_seconds(throttling(CgroupVersion::V1, &[&directory]), |n| {
        directory.write("cpu.stat", &stat(n * 50_000_000));
    });
    let Reading::Known { used, limit: 100 } = found.reading else { panic!("{found:?}") };
    assert!((44..=50).contains(&used), "{used}");
    assert_eq!(found.subject, Some(Subject::File("cgroup v1: cpu.cfs_quota_us")));
}

/// X1, X4: without a quota there is nothing to measure, and that is no fault
#[test]
fn no_quota_is_no_fault() {
    for (name, version, file, text) in [
        ("none-v2", CgroupVersion::V2, "cpu.max", "max 100000\n"),
        ("none-v1", CgroupVersion::V1, "cpu.cfs_quota_us", "-1\n"),
        ("absent", CgroupVersion::V2, "other", ""),
    ] {
        let directory =
            TestDirectory::new(&format!("quota-{name}"), &[(file, text), ("cpu.stat", "throttled_usec 5\n")]);
        let found = throttling(version, &[&directory]).read(clock::now()).unwrap();
        assert!(matches!(found.reading, Reading::Absent(_)), "{name}: {found:?}");
    }
    assert!(matches!(
        throttling(CgroupVersion::V2, &[]).read(clock::now()).unwrap().reading,
        Reading::Absent(_)
    ));
}

/// X1: the quota of an ancestor counts
#[test]
fn the_level_that_throttles_most_counts() {
    let files = |usec: &'static str| [("cpu.max", "10000 100000\n"), ("cpu.stat", usec)];
    let own = TestDirectory::new("quota-own", &files("throttled_usec 0\n"));
    let outer = TestDirectory::new("quota-outer", &files("throttled_usec 0\n"));
    let found = after_three_seconds(throttling(CgroupVersion::V2, &[&own, &outer]), |n| {
        outer.write("cpu.stat", &format!("throttled_usec {}\n", n * 100_000));
    });
    let Reading::Known { used, .. } = found.reading else { panic!("{found:?}") };
    assert!(used > 80, "{used}");
}

/// X4: malformed files are a failure of the sensor
#[test]
fn malformed_files_are_unknown() {
    let read = |max: &str, stat: &str| {
        let directory = TestDirectory::new("quota-malformed", &[("cpu.max", max), ("cpu.stat", stat)]);
        let mut sensor = unread(CgroupVersion::V2, &[&directory]);
        sensor.find_quotas()?;
        sensor.read(clock::now())
    };
    assert!(read("", "throttled_usec 1\n").is_err());
    assert!(read("many 100000\n", "throttled_usec 1\n").is_err());
    assert!(read("50000 100000\n", "").is_err());
    assert!(read("50000 100000\n", "throttled_usec -1\n").is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    /// X4: a counter that leaps or falls, and a clock that stands, give a share between 0 and 100 %
    #[test]
    fn any_counter_gives_a_share(samples in prop::collection::vec((any::<u64>(), 0u64..5000), 1..50)) {
        let (mut share, mut now) = (SmoothedShare::default(), clock::now());
        for (micros, pause) in samples {
            now += ms(pause);
            prop_assert!(share.sample(micros, now) <= 100);
        }
    }
}
