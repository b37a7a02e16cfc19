//! The embedded origin: a real S3 server inside the process, so that a first walk needs nothing but the binary.
//!
//! It is an upstream like any other: the gateway reaches it over a loopback socket with signed requests, and no
//! shortcut leads around the path that production traffic takes. Hence it has a thread and a runtime of its own
//! (its disk work never delays a worker), a port of the kernel's choosing, and a secret made afresh at every start,
//! which it verifies: whoever finds the port cannot get past the gateway.
//!
//! The access key id stays the same, because the store remembers which id began a multipart upload: with a new
//! one, uploads that were under way at a restart could never be completed or aborted.
//!
//! Deliberately absent: TLS, durability beyond the file system's, conditional reads, versioning, policies. It is for
//! trying out and for tests; production images leave it out (cargo feature `origin`).
mod keys;
mod serve;
mod store;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use thiserror::Error;
use tokio::sync::oneshot;

use self::store::Claim;

const ACCESS_KEY_ID: &str = "tidegate-embedded-origin";
const SECRET_BYTES: usize = 32;

/// A running embedded origin. Dropping it stops the server and gives the directory free.
#[derive(Debug)]
pub struct Origin {
    /// Where it listens: always a loopback address.
    pub address: SocketAddr,
    /// The key id to sign requests with.
    pub access_key_id: String,
    /// The secret to sign requests with; it ends with this process.
    pub secret_access_key: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    // Declared last: the directory is given free after the server has ended.
    _claim: Claim,
}

/// Why the embedded origin did not start.
#[derive(Debug, Error)]
pub enum OriginError {
    /// The data directory, or the bucket's folder in it, could not be made.
    #[error("cannot create the data directory {}: {source}", .directory.display())]
    Create {
        /// The directory that was to be made.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The data directory exists, yet a trial write failed.
    #[error("cannot write to the data directory {}: {source}", .directory.display())]
    Write {
        /// The directory that was tried.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process serves this directory: two servers would delete each other's unfinished writes.
    #[error("the data directory {} is in use by another process", .directory.display())]
    InUse {
        /// The directory that is taken.
        directory: PathBuf,
    },
    /// The store refused the data directory.
    #[error("cannot open the data directory {}: {message}", .directory.display())]
    Open {
        /// The directory that was refused.
        directory: PathBuf,
        /// What the store said.
        message: String,
    },
    /// The server's socket, runtime or thread could not be had.
    #[error("cannot start the embedded origin: {0}")]
    Server(#[from] io::Error),
}

/// Starts the origin on a loopback port with `bucket` in `directory`; both are made if missing.
pub fn start(directory: &Path, bucket: &str) -> Result<Origin, OriginError> {
    let claim = store::claim(directory, bucket)?;
    let secret_access_key = hex::encode(rand::random::<[u8; SECRET_BYTES]>());
    let service = store::service(directory, ACCESS_KEY_ID, &secret_access_key)?;
    let runtime = serve::runtime()?;
    let listener = serve::listen(&runtime)?;
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel();
    let thread = thread::Builder::new()
        .name("origin".to_owned())
        .spawn(move || serve::run(runtime, listener, service, stopped))?;
    Ok(Origin {
        address,
        access_key_id: ACCESS_KEY_ID.to_owned(),
        secret_access_key,
        stop: Some(stop),
        thread: Some(thread),
        _claim: claim,
    })
}

impl Drop for Origin {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // An error here is a panic of the server's thread: it has ended, which is what was asked for.
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod scratch;
#[cfg(test)]
mod tests;
