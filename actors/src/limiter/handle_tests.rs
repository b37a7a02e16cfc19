//! Handles of two configurations and the supervised actor behind them, on paused time (G3).

use std::time::Duration;

use actix::Addr;
use prometheus::{Encoder, Registry, TextEncoder};
use tidegate_config::Sources;

use super::*;
use crate::actor_shell::ActorShell;
use crate::actor_stats::ActorStats;
use crate::chaos::{Crash, CrashPoint};
use crate::clock;
use crate::intensity::Intensity;
use crate::metrics::ActorFamilies;
use crate::supervisor::supervise;

const CLIENT: IpKey = IpKey::V4(7);

fn config(limits: &str, buckets: &[(&str, &str)]) -> Config {
    let bucket = |(name, limit): &(&str, &str)| {
        format!(
            "[buckets.{name}]\nauth = [\"anonymous\"]\ns3.endpoints = [\"http://127.0.0.1:9\"]\n{limit}\n"
        )
    };
    let text = format!("{limits}\n{}", buckets.iter().map(bucket).collect::<String>());
    tidegate_config::load(Sources::default().text("test.toml", text)).unwrap()
}

fn burst(burst: u32) -> String {
    format!("rate_limit = {{ requests_per_second = 1, burst = {burst} }}")
}

/// A limiter and the names of its current configuration.
struct Reloads {
    registry: Registry,
    ids: Ids,
    handle: LimiterHandle,
}

impl Reloads {
    fn start(config: &Config) -> Self {
        tokio::time::pause();
        let (log, registry) = (slog::Logger::root(slog::Discard, slog::o!()), Registry::new());
        let actors = ActorFamilies::register(&registry).unwrap().actor("limiter");
        let (window, stats) = (Duration::from_secs(10), Arc::new(ActorStats::new("limiter", 16)));
        let (sender, receiver) = actix::dev::channel::channel(16);
        let (actor, timeout) = (Arc::clone(&stats), Duration::from_secs(1));
        let mailbox = Mailbox::new(Addr::new(sender), actor, actors.clone(), timeout);
        let ids = Ids::new(config);
        let metrics = Arc::new(LimiterMetrics::register(&registry, config, &ids).unwrap());
        let (handle, limiter) = LimiterHandle::create(mailbox, (config, &ids), &metrics, clock::now());
        let shell = ActorShell::new(limiter, window, Arc::clone(&stats), actors, log.clone());
        supervise(shell, receiver, Intensity::new(20, window), stats, log);
        Self { registry, ids, handle }
    }

    /// Builds the next configuration. It has no effect before the commit.
    fn prepare(&mut self, config: &Config) -> LimiterReconfigure {
        self.ids = self.ids.reloaded(config);
        let (handle, change) = self.handle.reconfigured(config, &self.ids);
        self.handle = handle;
        change
    }

    fn bucket(&self, name: &str) -> BucketId {
        self.ids.bucket(name).unwrap()
    }

    /// The series with this label value, without the namespace and without values.
    fn series(&self, bucket: &str) -> Vec<String> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let label = format!("bucket=\"{bucket}\"");
        let series = text.lines().filter(|line| line.contains(&label));
        series.map(|line| line.split('{').next().unwrap().to_owned()).collect()
    }
}

/// The requests that a bucket admits until it refuses one, at most 100.
async fn admitted(handle: &LimiterHandle, bucket: BucketId) -> usize {
    for count in 0..100 {
        if handle.admit(bucket, OperationClass::Read, CLIENT, clock::now()).await.is_err() {
            return count;
        }
    }
    100
}

/// G3: nothing happens before the commit; then a new limit holds for both handles, and what was used stays used
#[actix_rt::test]
async fn a_commit_changes_the_limits_of_both_handles() {
    let mut reloads = Reloads::start(&config("", &[("bbb", &burst(3)), ("ccc", &burst(3))]));
    let [bbb, ccc] = ["bbb", "ccc"].map(|name| reloads.bucket(name));
    let old = reloads.handle.clone();
    assert_eq!(admitted(&old, bbb).await, 3);
    let next = [("aaa", burst(1)), ("bbb", burst(5))];
    let next = config("", &next.each_ref().map(|(name, limit)| (*name, limit.as_str())));
    let change = reloads.prepare(&next);
    assert_eq!((admitted(&old, bbb).await, reloads.series("aaa").len()), (0, 0), "no effect yet");
    change.commit();
    assert_eq!(admitted(&old, bbb).await, 2, "five without the three that were used");
    let aaa = reloads.bucket("aaa");
    assert_eq!(admitted(&reloads.handle, bbb).await, 0);
    assert_eq!(admitted(&reloads.handle, aaa).await, 1);
    assert_eq!(admitted(&old, ccc).await, 3, "requests of the replaced configuration keep its limit");
    reloads.handle.forget(vec![ccc], Vec::new());
    assert_eq!(admitted(&old, ccc).await, 100);
    assert_eq!((admitted(&old, bbb).await, admitted(&reloads.handle, aaa).await), (0, 0));
}

/// G3, S5: a change is applied after a crash over its message, before the next message, and nothing is admitted twice
#[actix_rt::test]
async fn a_crash_loses_no_change() {
    let of = |tokens: u32| config("", &[("bbb", &burst(tokens))]);
    let mut reloads = Reloads::start(&of(2));
    let bbb = reloads.bucket("bbb");
    // A crash after the change spends the new burst.
    for (point, free) in [(CrashPoint::Decide, 5), (CrashPoint::Apply, 5), (CrashPoint::Applied, 0)] {
        let handle = &reloads.handle;
        assert_eq!(admitted(handle, bbb).await, 2, "{point:?}");
        let generation = handle.actor().actor_stats().generation();
        handle.actor().crash(Crash { point, next_message: true });
        reloads.prepare(&of(7)).commit();
        assert_eq!(admitted(&reloads.handle, bbb).await, free, "{point:?}");
        assert_eq!(reloads.handle.actor().actor_stats().generation(), generation + 1);
        reloads.prepare(&of(2)).commit();
        assert_eq!(admitted(&reloads.handle, bbb).await, 0, "the lower burst is used up");
        tokio::time::sleep(Duration::from_secs(8)).await;
    }
}

/// L2: leases that the replaced configuration was granted are spent by its requests only
#[actix_rt::test]
async fn leases_stay_with_their_configuration() {
    let of = |tokens: u32| config("", &[("bbb", &burst(tokens))]);
    let mut reloads = Reloads::start(&of(400_000));
    let (bbb, now) = (reloads.bucket("bbb"), clock::now());
    let old = reloads.handle.clone();
    for _ in 0..10 {
        old.admit(bbb, OperationClass::Read, CLIENT, now).await.unwrap();
    }
    reloads.prepare(&of(1)).commit();
    assert_eq!(admitted(&reloads.handle, bbb).await, 0);
    assert!(admitted(&old, bbb).await > 0, "a granted lease was charged already");
    tokio::time::sleep(Duration::from_millis(11)).await;
    assert_eq!(admitted(&old, bbb).await, 0, "it has ended");
}

/// L8: a new limit moves the end of each lockout
#[actix_rt::test]
async fn a_changed_limit_of_failures_changes_lockouts() {
    let of = |limit: &str| config(&format!("[rate_limit.failed_auth]\n{limit}"), &[("bbb", "")]);
    let mut reloads = Reloads::start(&of("requests_per_second = 0.001\nburst = 2"));
    let wait = |handle: &LimiterHandle, client| {
        let refusal = handle.check_auth_lockout(IpKey::V4(client), None, clock::now()).err()?;
        match refusal {
            LimiterRejection::Limited(status) => Some(status.retry_after.as_secs_f64().ceil()),
            LimiterRejection::Unavailable(_) => None,
        }
    };
    for client in [1, 1, 2] {
        reloads.handle.charge_auth_failure(IpKey::V4(client), None).await.unwrap();
    }
    assert_eq!((wait(&reloads.handle, 1), wait(&reloads.handle, 2)), (Some(1000.0), None));
    reloads.prepare(&of("requests_per_second = 0.001\nburst = 2\nmode = \"enforce\"")).commit();
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(wait(&reloads.handle, 1), Some(900.0), "an unchanged limit keeps its times");
    reloads.prepare(&of("requests_per_second = 0.1\nburst = 2")).commit();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(wait(&reloads.handle, 1), Some(8.0), "nine seconds of ten, and one has passed");
    reloads.prepare(&of("requests_per_second = 0.1\nburst = 9")).commit();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(wait(&reloads.handle, 1), None, "the burst has room");
    reloads.prepare(&of("requests_per_second = 0.1\nburst = 1")).commit();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(wait(&reloads.handle, 1), Some(10.0), "a lower limit locks out at once");
    assert_eq!(wait(&reloads.handle, 2), Some(8.0), "eight tenths of its failure are in use");
    assert_eq!(wait(&reloads.handle, 3), None, "it has not failed");
    let none = config("", &[("bbb", "")]);
    reloads.prepare(&none).commit();
    reloads.prepare(&of("requests_per_second = 0.1\nburst = 1")).commit();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(wait(&reloads.handle, 1), None, "an absent limit had no uses");
}

/// O3: a new bucket has its series at 0 from the commit on; those of a removed one go when it is forgotten
#[actix_rt::test]
async fn series_come_and_go_with_their_buckets() {
    let shadow = "rate_limit = { requests_per_second = 1, burst = 1, mode = \"shadow\" }";
    let mut reloads = Reloads::start(&config("", &[("bbb", ""), ("ccc", shadow)]));
    let [exceeded, shadowed] = ["rate_limit_exceeded_total", "rate_limit_shadowed_total"];
    assert_eq!(
        (reloads.series("bbb"), reloads.series("ccc")),
        (vec![exceeded.into()], vec![exceeded.into(), shadowed.into()])
    );
    let (bbb, ccc) = (reloads.bucket("bbb"), reloads.bucket("ccc"));
    assert_eq!(admitted(&reloads.handle, ccc).await, 100);
    let old = reloads.handle.clone();
    reloads.prepare(&config("", &[("bbb", shadow)])).commit();
    assert_eq!(reloads.series("bbb"), [exceeded, shadowed], "the bucket has a limit in shadow mode now");
    assert_eq!(old.shadowed_counts(ccc).map(|(_, count)| count).sum::<u64>(), 99);
    // The name returns before the replaced configuration is retired.
    reloads.prepare(&config("", &[("bbb", shadow), ("ccc", shadow)])).commit();
    assert_ne!(reloads.bucket("ccc"), ccc);
    let metrics = Arc::clone(&reloads.handle.limits.metrics);
    metrics.observe(clock::now());
    reloads.handle.forget(vec![ccc], Vec::new());
    assert_eq!(reloads.series("ccc").len(), 3, "the new bucket has the series");
    let last = reloads.bucket("ccc");
    reloads.prepare(&config("", &[("bbb", "")])).commit();
    reloads.handle.forget(vec![last], Vec::new());
    metrics.observe(clock::now());
    assert_eq!((reloads.series("ccc"), reloads.bucket("bbb")), (Vec::<String>::new(), bbb));
    assert_eq!(reloads.series("bbb").len(), 3);
}
