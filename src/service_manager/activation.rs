//! Socket activation: the listening sockets that the service manager has opened (sd_listen_fds(3)).
//!
//! A socket with the name `data` or `admin` (`FileDescriptorName=`) is that of this listener. One with the name that systemd gives by
//! itself is that of the listener with its address. Every other socket is an error: connections would wait in it for ever. The sockets
//! stay open over the second start of the program (`src/relaunch.rs`), because they are taken after it; taking them has children not
//! inherit them.

use std::net::{IpAddr, SocketAddr, TcpListener};

use listenfd::ListenFd;
use socket2::SockRef;
use thiserror::Error;
use tidegate_config::{Config, ServiceEnvironment};

use crate::server::inherited::{ADMIN, DATA, InheritedSocket, InheritedSockets};

/// More descriptors are a mistake: there are two listeners.
const DESCRIPTORS_MAX: usize = 16;
/// The number of the first descriptor.
const FIRST: usize = 3;
/// Why the sockets of the service manager cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ActivationError {
    /// The number of descriptors is none.
    #[error(
        "LISTEN_FDS: {0:?} is not a number of sockets from 0 to {DESCRIPTORS_MAX}; the service manager sets it, so remove it from Environment="
    )]
    Count(String),
    /// A descriptor is not a listening TCP socket.
    #[error(
        "the service manager passes descriptor {descriptor}, which is no TCP socket that listens ({problem}); use ListenStream= with a port or an IP address and Accept=no in its socket unit"
    )]
    NotListening {
        /// Its number.
        descriptor: usize,
        /// What it is.
        problem: String,
    },
    /// No listener has this name.
    #[error(
        "the service manager passes the socket {address} with the name `{name}`, but the listeners are `data` and `admin`; set FileDescriptorName= to one of them in its socket unit, or remove the line to have it matched by its address"
    )]
    UnknownName {
        /// The name.
        name: String,
        /// Its address.
        address: SocketAddr,
    },
    /// No listener has this address.
    #[error(
        "the service manager passes the socket {address}, but the listeners are configured at {data} (data) and {admin} (admin); set FileDescriptorName=data or FileDescriptorName=admin in its socket unit, or configure the same address and port"
    )]
    UnknownAddress {
        /// Its address.
        address: SocketAddr,
        /// The configured address of the data listener.
        data: SocketAddr,
        /// The configured address of the admin listener.
        admin: SocketAddr,
    },
    /// Two sockets are for the same listener.
    #[error(
        "the service manager passes two sockets for the listener `{listener}`: {first} and {second}; remove one of them, or name one `data` and one `admin` by FileDescriptorName= in socket units of their own"
    )]
    Twice {
        /// The name of the listener.
        listener: &'static str,
        /// The address of one.
        first: SocketAddr,
        /// The address of the other.
        second: SocketAddr,
    },
}

/// Sockets of the service manager that belong to no listener yet.
#[derive(Debug, Default)]
pub struct ActivatedSockets(Vec<ActivatedSocket>);

#[derive(Debug)]
struct ActivatedSocket {
    /// The name that its unit sets.
    name: Option<String>,
    address: SocketAddr,
    socket: TcpListener,
}

impl ActivatedSockets {
    /// Takes the passed descriptors. Must be called once, before the process opens a descriptor or starts a thread.
    ///
    /// # Errors A descriptor is not a TCP socket that listens.
    pub fn take(environment: &ServiceEnvironment) -> Result<Self, ActivationError> {
        let Some(count) = &environment.descriptors else { return Ok(Self::default()) };
        let parsed = count.trim().parse::<usize>().ok().filter(|count| *count <= DESCRIPTORS_MAX);
        let count = parsed.ok_or_else(|| ActivationError::Count(count.clone()))?;
        let mut passed = ListenFd::from_env();
        let sockets = (0..count).map(|at| {
            let failed = |problem| ActivationError::NotListening { descriptor: FIRST + at, problem };
            let taken = passed.take_tcp_listener(at).map_err(|error| failed(error.to_string()))?;
            let socket = taken.ok_or_else(|| failed("it is not passed".to_owned()))?;
            if !SockRef::from(&socket).is_listener().unwrap_or(false) {
                return Err(failed("it does not listen".to_owned()));
            }
            let address = socket.local_addr().map_err(|error| failed(error.to_string()))?;
            let name = environment.names.get(at).filter(|name| !is_default_name(name)).cloned();
            Ok(ActivatedSocket { name, address, socket })
        });
        sockets.collect::<Result<_, _>>().map(Self)
    }

    /// Assigns each socket to a listener.
    ///
    /// # Errors A socket is for no listener, or two are for the same.
    pub fn assign(self, config: &Config) -> Result<InheritedSockets, ActivationError> {
        let data = SocketAddr::new(config.server.address, config.server.port);
        let admin = SocketAddr::new(config.admin.address, config.admin.port);
        let mut assigned = InheritedSockets::default();
        for ActivatedSocket { name, address, socket } in self.0 {
            let (listener, place) = match name.as_deref() {
                Some(DATA) => (DATA, &mut assigned.data),
                Some(ADMIN) => (ADMIN, &mut assigned.admin),
                Some(name) => return Err(ActivationError::UnknownName { name: name.to_owned(), address }),
                None if is_same(address, data) => (DATA, &mut assigned.data),
                None if is_same(address, admin) => (ADMIN, &mut assigned.admin),
                None => return Err(ActivationError::UnknownAddress { address, data, admin }),
            };
            if let Some(first) = place.as_ref().and_then(|first| first.socket.local_addr().ok()) {
                return Err(ActivationError::Twice { listener, first, second: address });
            }
            *place = Some(InheritedSocket::activated(socket));
        }
        Ok(assigned)
    }
}

/// Whether the service manager has given the name by itself: that of the socket unit, or none.
fn is_default_name(name: &str) -> bool {
    name.is_empty() || name == "unknown" || name.ends_with(".socket")
}

/// Whether a socket has a configured address. `ListenStream=8080` opens one socket for all addresses of both families.
fn is_same(socket: SocketAddr, configured: SocketAddr) -> bool {
    let (one, other) = (socket.ip().to_canonical(), configured.ip().to_canonical());
    let both_any = one.is_unspecified() && other.is_unspecified();
    socket.port() == configured.port() && (one == other || (both_any && covers(one, other)))
}

/// Whether a socket for all addresses of one kind has those of the other.
fn covers(socket: IpAddr, configured: IpAddr) -> bool {
    socket.is_ipv6() || configured.is_ipv4()
}
