//! Idle connections over in-memory streams.

use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn settings() -> PoolSettings {
    PoolSettings {
        idle_max: 3,
        idle_timeout: 10 * SECOND,
        lifetime: None,
        connect_timeout: SECOND,
        head_limits: ResponseHeadLimits { bytes_max: 1000, fields_max: 10 },
        retention: BufferRetention::Fixed,
    }
}

fn pool(settings: PoolSettings, counts: &ConnectionCounts) -> Rc<EndpointPool<DuplexStream>> {
    EndpointPool::new(settings, counts.clone(), |_| Box::pin(async { Err(io::ErrorKind::NotFound.into()) }))
}

/// Opens a connection and returns it to the pool. The returned value is the upstream's end.
fn idle(pool: &EndpointPool<DuplexStream>, tls_bucket: &str, now: Instant) -> DuplexStream {
    let (near, far) = duplex(100);
    pool.release(pool.adopt(near, tls_bucket), None, now);
    far
}

/// Which of these streams has the other end of the connection.
async fn number_of(pooled: &mut PooledConnection<DuplexStream>, streams: &mut [DuplexStream]) -> usize {
    use tokio::io::AsyncReadExt;
    pooled.connection.stream.write_all(b"x").await.unwrap();
    for (number, stream) in streams.iter_mut().enumerate() {
        let mut byte = [0];
        let reading = tokio::time::timeout(Duration::ZERO, stream.read_exact(&mut byte));
        if matches!(reading.await, Ok(Ok(_))) {
            return number;
        }
    }
    panic!("none has it")
}

/// P1: newest first, at most `max_idle`, and then the oldest closes
#[tokio::test]
async fn the_newest_connection_is_used_first() {
    let (counts, now) = (ConnectionCounts::default(), clock::now());
    let pool = pool(settings(), &counts);
    let mut streams: Vec<_> = (0..4).map(|_| idle(&pool, "", now)).collect();
    assert_eq!((counts.open(), counts.idle()), (3, 3));
    for expected in [3, 2, 1] {
        let mut taken = pool.take("", now).unwrap();
        assert!(taken.connection.is_reused);
        assert_eq!(number_of(&mut taken, &mut streams).await, expected);
    }
    assert!(pool.take("", now).is_none());
    assert_eq!((counts.open(), counts.idle()), (0, 0));
}

/// P1: `max_idle` is that of all workers: a thread without idle connections keeps none beyond it
#[tokio::test]
async fn the_limit_of_idle_connections_is_shared() {
    let (counts, now) = (ConnectionCounts::default(), clock::now());
    let (one, other) = (pool(settings(), &counts), pool(settings(), &counts));
    let _streams: Vec<_> = (0..3).map(|_| idle(&one, "", now)).collect();
    let _stream = idle(&other, "", now);
    assert!(other.take("", now).is_none());
    assert_eq!((counts.open(), counts.idle()), (3, 3));
    let none = pool(PoolSettings { idle_max: 0, ..settings() }, &ConnectionCounts::default());
    let _stream = idle(&none, "", now);
    assert!(none.take("", now).is_none());
}

/// P1: a connection that is closed, or has bytes without a request, is not used
#[tokio::test]
async fn a_closed_or_readable_connection_is_gone() {
    let (counts, now) = (ConnectionCounts::default(), clock::now());
    let pool = pool(settings(), &counts);
    let _live = idle(&pool, "", now);
    let mut readable = idle(&pool, "", now);
    readable.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.unwrap();
    drop(idle(&pool, "", now));
    assert!(pool.take("", now).is_some());
    assert_eq!((counts.open(), counts.idle()), (0, 0));
    drop(idle(&pool, "", now));
    let _live = idle(&pool, "", now);
    pool.sweep(now);
    assert_eq!((counts.open(), counts.idle()), (1, 1));
}

/// P1, P8: the idle time of the gateway, that of the upstream, and the age of a connection to a name
#[tokio::test]
async fn a_connection_ends_with_its_time() {
    let now = clock::now();
    let lives = |settings: PoolSettings, idle_max: Option<Duration>, released: Instant, at: Instant| {
        let pool = pool(settings, &ConnectionCounts::default());
        let (near, _far) = duplex(100);
        let far = _far;
        pool.release(pool.adopt(near, ""), idle_max, released);
        let is_live = pool.take("", at).is_some();
        drop(far);
        is_live
    };
    assert!(lives(settings(), None, now, now + 9 * SECOND));
    assert!(!lives(settings(), None, now, now + 10 * SECOND));
    assert!(lives(settings(), Some(4 * SECOND), now, now + 3 * SECOND));
    assert!(!lives(settings(), Some(4 * SECOND), now, now + 4 * SECOND));
    assert!(!lives(settings(), Some(60 * SECOND), now, now + 10 * SECOND));
    let named = || PoolSettings { lifetime: Some(300 * SECOND), ..settings() };
    assert!(lives(named(), None, now + 295 * SECOND, now + 299 * SECOND));
    assert!(!lives(named(), None, now + 295 * SECOND, now + 301 * SECOND));
    assert!(!lives(named(), None, now + 301 * SECOND, now + 301 * SECOND));
}

/// A7: connections with different TLS server names are never exchanged
#[tokio::test]
async fn a_connection_keeps_its_server_name() {
    let (counts, now) = (ConnectionCounts::default(), clock::now());
    let pool = pool(settings(), &counts);
    let _streams = [idle(&pool, "a", now), idle(&pool, "b", now), idle(&pool, "", now)];
    assert!(pool.take("c", now).is_none());
    assert_eq!(pool.take("a", now).map(|taken| taken.connection.tls_bucket).as_deref(), Some("a"));
    assert_eq!(pool.take("", now).map(|taken| taken.connection.tls_bucket).as_deref(), Some(""));
    assert!(pool.take("a", now).is_none());
}

/// L3: after idle connections were closed on request, those in use close at the end of their responses
#[tokio::test]
async fn a_connection_from_before_a_closing_is_not_returned() {
    let (counts, now) = (ConnectionCounts::default(), clock::now());
    let pool = pool(settings(), &counts);
    let _streams = [idle(&pool, "", now), idle(&pool, "", now)];
    let in_use = pool.take("", now).unwrap();
    assert_eq!(pool.close_idle(), 1);
    pool.release(in_use, None, now);
    assert_eq!((counts.open(), counts.idle()), (0, 0));
    let _stream = idle(&pool, "", now);
    assert_eq!(counts.idle(), 1);
}
