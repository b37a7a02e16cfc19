//! DNS cache with resolvers that answer, change, fail and hang, on paused time.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

const CONFIG: DnsConfig = DnsConfig { ttl: Duration::from_secs(30), timeout: Duration::from_secs(5) };

fn ip(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

#[derive(Clone, Copy)]
enum Lookup {
    Answer(&'static [u8]),
    Fail,
    Hang,
}

/// A resolver that returns these results in turn, repeats the last one, and counts its calls.
fn resolver(script: &'static [Lookup]) -> (DnsLookup, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    let lookup: DnsLookup = Arc::new(move |_| {
        let number = counter.fetch_add(1, Ordering::SeqCst);
        let lookup = script[number.min(script.len() - 1)];
        Box::pin(async move {
            match lookup {
                Lookup::Answer(last_octets) => Ok(last_octets.iter().map(|last| ip(*last)).collect()),
                Lookup::Fail => Err(io::Error::other("servfail")),
                Lookup::Hang => std::future::pending().await,
            }
        })
    });
    (lookup, calls)
}

async fn first(name: &Arc<HostResolver>) -> IpAddr {
    name.addresses(9).await.unwrap()[0].ip()
}

/// P8: all addresses are used, one after the other
#[test]
fn connections_rotate_over_all_addresses() {
    let mut cached = DnsCacheEntry::default();
    let now = clock::now();
    cached.store(vec![ip(2), ip(1), ip(2)], CONFIG.ttl, now);
    let plans: Vec<_> = (0..4).map(|_| cached.plan(now)).collect();
    let (one, two) = (CachePlan::Use(vec![ip(1), ip(2)]), CachePlan::Use(vec![ip(2), ip(1)]));
    assert_eq!(plans.iter().collect::<Vec<_>>(), [&one, &two, &one, &two]);
}

/// P8
#[test]
fn an_answer_is_used_until_it_is_due_and_one_asks_for_the_next() {
    let mut cached = DnsCacheEntry::default();
    let now = clock::now();
    assert_eq!(cached.plan(now), CachePlan::Await { start: true, has_stale: false });
    assert_eq!(cached.plan(now), CachePlan::Await { start: false, has_stale: false }, "it is under way");
    cached.store(vec![ip(1)], CONFIG.ttl, now);
    assert_eq!(cached.plan(now + Duration::from_millis(29_999)), CachePlan::Use(vec![ip(1)]));
    assert_eq!(cached.plan(now + CONFIG.ttl), CachePlan::Await { start: true, has_stale: true });
    cached.store_failure(now + CONFIG.ttl);
    let soon = now + CONFIG.ttl + FAILURE_PAUSE;
    assert_eq!(cached.plan(soon - Duration::from_millis(1)), CachePlan::Use(vec![ip(1)]), "left alone");
    assert_eq!(cached.plan(soon), CachePlan::Await { start: true, has_stale: true });
}

/// P8: a burst of connections is one look-up
#[tokio::test(start_paused = true)]
async fn concurrent_callers_share_one_lookup() {
    let (lookup, calls) = resolver(&[Lookup::Answer(&[1, 2])]);
    let name = HostResolver::new("store.test", &CONFIG, lookup);
    let all = futures_util::future::join_all((0..50).map(|_| first(&name))).await;
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert_eq!(all.iter().filter(|address| **address == ip(1)).count(), 25);
}

/// P8, X10: a failing resolver leaves the last answer in use, which is published, and a hanging one does not hold connections up
#[tokio::test(start_paused = true)]
async fn the_last_answer_outlives_the_resolver() {
    let no_ttl = DnsConfig { ttl: Duration::ZERO, ..CONFIG };
    let (lookup, _) = resolver(&[Lookup::Answer(&[1]), Lookup::Answer(&[2]), Lookup::Fail]);
    let name = HostResolver::new("store.test", &no_ttl, lookup);
    assert_eq!((first(&name).await, first(&name).await), (ip(1), ip(2)), "it is looked up again");
    assert_eq!(name.failing_lookup(), None);
    assert_eq!((first(&name).await, first(&name).await), (ip(2), ip(2)));
    let failing = name.failing_lookup().unwrap();
    assert_eq!((failing.host.as_str(), failing.error.as_str()), ("store.test", "servfail"));
    assert_eq!((failing.answered.is_some(), name.stale_uses()), (true, 2));

    let (lookup, _) = resolver(&[Lookup::Fail, Lookup::Answer(&[1])]);
    let name = HostResolver::new("store.test", &no_ttl, lookup);
    name.addresses(9).await.unwrap_err();
    let failing = name.failing_lookup().unwrap();
    assert_eq!((failing.answered.is_some(), name.stale_uses()), (false, 0));
    assert_eq!((first(&name).await, name.failing_lookup()), (ip(1), None));

    let (lookup, calls) = resolver(&[Lookup::Answer(&[1]), Lookup::Hang]);
    let name = HostResolver::new("store.test", &no_ttl, lookup);
    assert_eq!(first(&name).await, ip(1));
    let began = tokio::time::Instant::now();
    assert_eq!((first(&name).await, first(&name).await), (ip(1), ip(1)));
    assert!(began.elapsed() <= STALE_WAIT_MAX * 2, "{:?}", began.elapsed());
    assert_eq!(calls.load(Ordering::SeqCst), 2, "one lookup hangs, no other is started");
}

/// P8: lookups have a timeout, and a failed lookup is repeated
#[tokio::test(start_paused = true)]
async fn a_failed_lookup_is_reported() {
    let (lookup, _) = resolver(&[Lookup::Fail, Lookup::Hang, Lookup::Answer(&[]), Lookup::Answer(&[7])]);
    let name = HostResolver::new("store.test", &CONFIG, lookup);
    let mut errors = Vec::new();
    for _ in 0..3 {
        errors.push(name.addresses(9).await.unwrap_err().to_string());
        // The hanging lookup and the wait for it end at the same time.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let expected = ["servfail", "no answer within 5s", "it has no addresses"]
        .map(|why| format!("no address for `store.test`: {why}"));
    assert_eq!(errors, expected);
    assert_eq!(name.addresses(9).await.unwrap(), [SocketAddr::new(ip(7), 9)]);
}

#[tokio::test]
async fn an_address_is_never_resolved() {
    let (lookup, calls) = resolver(&[Lookup::Fail]);
    for host in ["127.0.0.1", "::1"] {
        let name = HostResolver::new(host, &CONFIG, Arc::clone(&lookup));
        assert_eq!(first(&name).await, host.parse::<IpAddr>().unwrap());
    }
    assert_eq!(calls.load(Ordering::SeqCst), 0);
}
