//! The system resolver, with detection of shortages in the gateway (X9).
//!
//! `getaddrinfo(3)` reads files and opens sockets, and hides a lack of descriptors: glibc then reports an unknown
//! name (`EAI_NONAME`) or a system error, and leaves `EMFILE` in `errno`. So `errno` is read on the thread of the
//! call, right after it.

use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;

use crate::shortage::Shortage;
use crate::upstream::connect::dns_cache::DnsLookup;

/// The system resolver. It blocks, so each lookup runs on a thread of the blocking pool.
pub(crate) fn system_lookup() -> DnsLookup {
    Arc::new(|host| {
        Box::pin(async move {
            tokio::task::spawn_blocking(move || lookup(&host)).await.unwrap_or_else(|panic| Err(panic.into()))
        })
    })
}

fn lookup(host: &str) -> io::Result<Vec<IpAddr>> {
    reset_errno();
    match (host, 0).to_socket_addrs() {
        Ok(found) => Ok(found.map(|address| address.ip()).collect()),
        Err(error) => Err(classify_error(error, &io::Error::last_os_error())),
    }
}

/// Sets `errno` to `ENOENT`, so that the value of an earlier call is not taken for the resolver's.
fn reset_errno() {
    let _ = std::fs::symlink_metadata("");
}

/// Only two shortages count: a resolver without ports or routes is a failed resolver.
fn classify_error(error: io::Error, errno: &io::Error) -> io::Error {
    let shortage = [&error, errno].into_iter().find_map(Shortage::of_system);
    match shortage {
        Some(shortage @ (Shortage::Descriptors | Shortage::Memory)) => shortage.into(),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    /// X9: a shortage that the resolver reports as an unknown name is found in `errno`
    #[test]
    fn a_hidden_shortage_is_found() {
        let unknown = || io::Error::other("Name or service not known");
        let found = |errno: Errno| Shortage::of(&classify_error(unknown(), &errno.into()));
        assert_eq!(found(Errno::MFILE), Some(Shortage::Descriptors));
        assert_eq!(found(Errno::NOMEM), Some(Shortage::Memory));
        assert_eq!((found(Errno::NOENT), found(Errno::ADDRNOTAVAIL)), (None, None));
        assert_eq!(
            Shortage::of(&classify_error(Errno::NFILE.into(), &Errno::NOENT.into())),
            Some(Shortage::Descriptors)
        );
    }

    /// P8
    #[test]
    fn a_name_is_resolved() {
        let found = lookup("localhost").unwrap();
        assert!(!found.is_empty() && found.iter().all(IpAddr::is_loopback), "{found:?}");
        let error = lookup("tidegate.invalid").unwrap_err();
        assert_eq!(Shortage::of(&error), None, "{error}");
    }
}
