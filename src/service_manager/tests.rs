//! Messages to a socket of the test, as a service manager receives them.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use slog::{Discard, Logger, o};
use tidegate_config::ServiceEnvironment;

use super::*;
use crate::scratch::Scratch;

/// A receiving socket, and the notifications to it.
struct Receiver {
    socket: UnixDatagram,
    service: ServiceManager,
    _directory: Scratch,
}

impl Receiver {
    fn new() -> Self {
        let directory = Scratch::new();
        let path: PathBuf = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let environment = ServiceEnvironment { notify_socket: Some(path.into()), ..Default::default() };
        let service = ServiceManager::from_environment(&environment, &Logger::root(Discard, o!()));
        Self { socket, service, _directory: directory }
    }

    /// The next message; none if nothing was sent.
    fn next(&self) -> Option<String> {
        let mut bytes = [0; 8 << 10];
        let length = self.socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8(bytes[..length].to_vec()).unwrap())
    }
}

/// G8: of overlapping reloads the last one ends the state `reloading`
#[test]
fn the_last_of_overlapping_reloads_is_ready() {
    let receiver = Receiver::new();
    receiver.service.reloading();
    let first = receiver.next().unwrap();
    assert!(first.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{first}");
    receiver.service.reloading();
    assert!(receiver.next().unwrap().starts_with("RELOADING=1\n"));
    receiver.service.reloaded("configuration 2 is in use");
    assert_eq!(receiver.next().unwrap(), "STATUS=configuration 2 is in use");
    receiver.service.reloaded("configuration refused,\n2 stays in use");
    assert_eq!(receiver.next().unwrap(), "READY=1\nSTATUS=configuration refused, 2 stays in use");
}

/// G8: after a hand-over this process is silent, because the service manager takes a message of the old main process for a fault
#[test]
fn nothing_is_sent_after_a_hand_over() {
    let receiver = Receiver::new();
    receiver.service.main_pid(4_711);
    let message = receiver.next().unwrap();
    let lines: Vec<_> = message.lines().collect();
    assert_eq!(lines, ["MAINPID=4711", "READY=1", "WATCHDOG=1", "STATUS=upgraded: the new process serves"]);
    receiver.service.reloading();
    receiver.service.reloaded("x");
    receiver.service.status("x");
    receiver.service.ready();
    receiver.service.ping();
    assert_eq!(receiver.next(), None);
}

/// G8: without a service manager nothing happens, and an address of another kind is not used
#[test]
fn without_a_service_manager_nothing_is_sent() {
    for address in [None, Some("vsock:2:1234".into()), Some("relative".into())] {
        let environment = ServiceEnvironment { notify_socket: address, ..Default::default() };
        let service = ServiceManager::from_environment(&environment, &Logger::root(Discard, o!()));
        assert!(service.0.is_none());
        service.ready();
    }
}

/// G8: a long text is cut to what a message can hold
#[test]
fn a_status_is_one_short_line() {
    let line = status_line(&"ü\n".repeat(4_000));
    assert_eq!(line.chars().count(), "STATUS=".len() + STATUS_CHARS_MAX);
    assert!(!line.contains('\n'));
}

/// G8: a service manager that is gone delays nothing
#[test]
fn a_closed_socket_is_no_failure_of_the_gateway() {
    let Receiver { socket, service, _directory } = Receiver::new();
    drop(socket);
    service.ready();
    service.status("x");
    let state = service.0.as_ref().unwrap().state.lock().unwrap();
    assert!(state.has_failed);
}

/// G8: a successor pings the watchdog, which is for the process that WATCHDOG_PID names, and takes no sockets by number
#[test]
fn a_successor_has_no_variable_that_names_its_predecessor() {
    let mut command = Command::new("successor");
    command
        .env("WATCHDOG_PID", "7")
        .env("LISTEN_PID", "7")
        .env("NOTIFY_SOCKET", "@x")
        .env("WATCHDOG_USEC", "1");
    ServiceManager::prepare_successor(&mut command);
    let variables: Vec<_> = command.get_envs().filter_map(|(name, value)| value.map(|_| name)).collect();
    assert_eq!(variables, ["NOTIFY_SOCKET", "WATCHDOG_USEC"]);
}
