//! A service manager as the parent: its sockets, the notifications to it, its watchdog.
//!
//! The tests have the other end of the protocol: they hold the listening sockets as systemd does, and receive the notifications.

mod notifications;
mod sockets;
mod watchdog;

use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use crate::support::{Scratch, wait_for};

/// The socket that receives notifications.
pub(crate) struct NotifySocket {
    pub(crate) address: String,
    received: Arc<Mutex<Vec<(Instant, String)>>>,
    _directory: Option<Scratch>,
}

impl NotifySocket {
    /// A socket with a path.
    pub(crate) fn new() -> Self {
        let directory = Scratch::new();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Self::receive(socket, path.to_str().unwrap().to_owned(), Some(directory))
    }

    /// A socket with an abstract name.
    fn with_abstract_name() -> Self {
        use std::os::linux::net::SocketAddrExt as _;
        let name = format!("tidegate-test-{:016x}", rand::random::<u64>());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        Self::receive(UnixDatagram::bind_addr(&address).unwrap(), format!("@{name}"), None)
    }

    fn receive(socket: UnixDatagram, address: String, directory: Option<Scratch>) -> Self {
        let received = Arc::<Mutex<Vec<(Instant, String)>>>::default();
        let into = Arc::downgrade(&received);
        thread::spawn(move || {
            let mut bytes = [0; 8 << 10];
            while let Ok(length) = socket.recv(&mut bytes) {
                let Some(into) = into.upgrade() else { return };
                let message = String::from_utf8(bytes[..length].to_vec()).unwrap();
                into.lock().unwrap().push((Instant::now(), message));
            }
        });
        Self { address, received, _directory: directory }
    }

    /// The messages so far.
    pub(crate) fn messages(&self) -> Vec<String> {
        self.received.lock().unwrap().iter().map(|(_, message)| message.clone()).collect()
    }

    /// The times of the pings so far.
    fn pings(&self) -> Vec<Instant> {
        let received = self.received.lock().unwrap();
        received.iter().filter(|(_, message)| message == "WATCHDOG=1").map(|(at, _)| *at).collect()
    }

    /// Waits for the first message from `from` on that has this line; returns its position and the message.
    pub(crate) async fn wait_for_line(&self, from: usize, line: &str) -> (usize, String) {
        wait_for(&format!("a notification with {line}"), || async {
            let messages = self.messages();
            let mut found = messages.iter().enumerate().skip(from);
            let found = found.find(|(_, message)| message.lines().any(|own| own == line));
            found.map(|(at, message)| (at, message.clone()))
        })
        .await
    }
}

/// The value of an assignment in a message.
fn value<'a>(message: &'a str, name: &str) -> &'a str {
    let mut values = message.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    values.next().unwrap_or_else(|| panic!("no {name} in {message:?}"))
}
