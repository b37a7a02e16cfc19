//! Start and stop of the origin, without signed requests: the suites with real clients send those.
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::limits::Limits;
use super::store::Store;
use super::{OriginError, directory, start};
use crate::scratch::Scratch;

fn get_unsigned(address: SocketAddr, target: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(stream, "GET {target} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The origin refuses unsigned requests also on the loopback interface, because only the gateway has the secret.
#[test]
fn an_unsigned_request_is_refused() {
    let scratch = Scratch::new();
    let origin = start(scratch.path(), "demo").unwrap();
    let answer = get_unsigned(origin.address, "/demo/");
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(answer.contains("<Code>AccessDenied</Code>"), "{answer}");
}

#[test]
fn two_starts_have_two_secrets() {
    let (left, right) = (Scratch::new(), Scratch::new());
    let (left, right) = (start(left.path(), "demo").unwrap(), start(right.path(), "demo").unwrap());
    assert_eq!(left.secret_access_key.len(), 64);
    assert_ne!(left.secret_access_key, right.secret_access_key);
}

#[test]
fn missing_directories_are_created() {
    let scratch = Scratch::new();
    let directory = scratch.path().join("not/yet/there");
    let _origin = start(&directory, "demo").unwrap();
    let mut names: Vec<_> =
        fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [".tidegate-origin.lock", "store_v2"], "the trial write left something behind");
}

/// An unusable data directory is one error with its path.
#[test]
fn a_file_at_the_path_of_the_directory_is_named() {
    let scratch = Scratch::new();
    let directory = scratch.path().join("taken");
    fs::write(&directory, "a file").unwrap();
    let error = start(&directory, "demo").unwrap_err();
    assert!(matches!(error, OriginError::Create { .. }), "{error:?}");
    assert!(error.to_string().contains(directory.to_str().unwrap()), "{error}");
}

/// Mode bits do not restrict root and a test cannot mount a file system, so a directory occupies the path of the trial file.
#[test]
fn a_failed_trial_write_names_the_directory() {
    let scratch = Scratch::new();
    fs::create_dir_all(scratch.path().join(".tidegate-write-probe")).unwrap();
    let error = start(scratch.path(), "demo").unwrap_err();
    assert!(matches!(error, OriginError::Write { .. }), "{error:?}");
    assert!(error.to_string().contains(scratch.path().to_str().unwrap()), "{error}");
}

#[test]
fn a_directory_serves_one_origin_at_a_time_and_is_free_after_a_drop() {
    let scratch = Scratch::new();
    let first = start(scratch.path(), "demo").unwrap();
    let error = start(scratch.path(), "demo").unwrap_err();
    assert!(matches!(error, OriginError::InUse { .. }), "{error:?}");
    drop(first);
    start(scratch.path(), "demo").unwrap();
}

/// An operation that outlives the server keeps the store, and so the lock.
#[test]
fn the_directory_is_locked_until_the_last_operation_has_ended() {
    let scratch = Scratch::new();
    let lock = directory::prepare(scratch.path()).unwrap();
    let (store, _) = Store::open(scratch.path(), lock, Limits::default()).unwrap();
    let error = start(scratch.path(), "demo").unwrap_err();
    assert!(matches!(error, OriginError::InUse { .. }), "{error:?}");
    drop(store);
    start(scratch.path(), "demo").unwrap();
}

/// G4: the drop takes less than a second, also while a client keeps its connection open.
#[test]
fn a_drop_ends_the_server_soon_even_with_an_idle_client() {
    let scratch = Scratch::new();
    let origin = start(scratch.path(), "demo").unwrap();
    let address = origin.address;
    let mut idle = TcpStream::connect(address).unwrap();
    idle.write_all(b"GET /demo/ HTTP/1.1\r\n").unwrap();
    #[expect(clippy::disallowed_methods, reason = "measures the test itself")]
    let started = Instant::now();
    drop(origin);
    assert!(started.elapsed() < Duration::from_secs(1), "took {:?}", started.elapsed());
    assert!(TcpStream::connect(address).is_err(), "the port still answers");
}
