//! The embedded origin: a real S3 server inside the process, so that a first walk needs nothing but the binary.
//!
//! It is an upstream like any other: the gateway reaches it over a loopback socket with signed requests, and no
//! shortcut leads around the path that production traffic takes. Hence it has a thread and a runtime of its own
//! (its disk work never delays a worker), a port of the kernel's choosing, and a secret made afresh at every start.
//! It verifies that secret: a process that finds the port cannot get past the gateway.
//!
//! ```text
//! serve.rs ── request_validation.rs ── s3s (HTTP, signatures, XML) ── api.rs ── objects, copies, multipart, pages, tags, buckets
//!                                                        └── store.rs (index) ── disk.rs, data.rs, load.rs
//! ```
//!
//! A demo store, for trying out and for tests; production images leave it out (cargo feature `origin`). It survives a kill.
//! Deliberately absent: TLS, durability beyond the file system's, versioning, policies, lifecycle rules, encryption, object
//! locks, ACLs beyond the owner's, and every other operation that `api.rs` does not list. Each of those is 501.
mod api;
mod body_receiver;
mod buckets;
mod checksum;
mod conditions;
mod copies;
mod data;
mod directory;
mod disk;
mod import;
mod limits;
mod listener;
mod listing;
mod load;
mod multipart;
mod objects;
mod pages;
mod reader;
mod record;
mod request_validation;
mod store;
mod tags;
mod unsupported;
mod upload_checksum;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use http::StatusCode;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s::{S3Error, S3ErrorCode, S3Result};
use thiserror::Error;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use self::api::Api;
use self::directory::DirectoryLock;
use self::limits::Limits;
use self::request_validation::ValidatedService;
use self::store::Store;

const ACCESS_KEY_ID: &str = "tidegate-embedded-origin";
const SECRET_BYTES: usize = 32;

/// A running embedded origin. Dropping it stops the server. The directory is unlocked after the last operation on the store.
#[derive(Debug)]
pub struct Origin {
    /// Where it listens: always a loopback address.
    pub address: SocketAddr,
    /// The key id to sign requests with.
    pub access_key_id: String,
    /// The secret to sign requests with; it ends with this process.
    pub secret_access_key: String,
    /// Files in the data directory that are not served.
    pub faults: Vec<StorageFault>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// A file in the data directory that is not served. It stays where it is.
#[derive(Debug)]
pub struct StorageFault {
    /// The file.
    pub path: PathBuf,
    /// Why it is not served.
    pub problem: String,
    /// The fix.
    pub hint: &'static str,
}

/// Why the embedded origin did not start.
#[derive(Debug, Error)]
pub enum OriginError {
    /// The data directory could not be created.
    #[error("cannot create the data directory {}: {source}", .directory.display())]
    Create {
        /// The directory that was to be created.
        directory: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The data directory exists, but a trial write failed.
    #[error("cannot write to the data directory {}: {source}", .directory.display())]
    Write {
        /// The directory that was tried.
        directory: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Another process serves this directory: two servers would delete each other's unfinished writes.
    #[error("the data directory {} is in use by another process", .directory.display())]
    InUse {
        /// The directory that is taken.
        directory: PathBuf,
    },
    /// What is in the data directory could not be read or taken over.
    #[error("cannot open the data directory {}: {source}", .directory.display())]
    Open {
        /// The directory that was tried.
        directory: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The server's socket, runtime or thread could not be had.
    #[error("cannot start the embedded origin: {0}")]
    Server(#[from] io::Error),
}

/// Starts the origin on a loopback port with `bucket` in `directory`; both are created if missing.
pub fn start(directory: &Path, bucket: &str) -> Result<Origin, OriginError> {
    let lock = directory::prepare(directory)?;
    let (store, faults) = open(directory, lock, bucket)
        .map_err(|source| OriginError::Open { directory: directory.to_owned(), source })?;
    let secret_access_key = hex::encode(rand::random::<[u8; SECRET_BYTES]>());
    let service = service(store, &secret_access_key);
    let runtime = listener::runtime()?;
    let listener = listener::listen(&runtime)?;
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel();
    let thread = thread::Builder::new()
        .name("origin".to_owned())
        .spawn(move || listener::run(runtime, listener, service, stopped))?;
    Ok(Origin {
        address,
        access_key_id: ACCESS_KEY_ID.to_owned(),
        secret_access_key,
        faults,
        stop: Some(stop),
        thread: Some(thread),
    })
}

fn open(directory: &Path, lock: DirectoryLock, bucket: &str) -> io::Result<(Store, Vec<StorageFault>)> {
    let (store, mut faults) = Store::open(directory, lock, Limits::default())?;
    faults.extend(import::import(&store, directory)?);
    if store.read_bucket(bucket, |_| Ok(())).is_err() {
        store.create_bucket(bucket).map_err(io::Error::other)?;
    }
    Ok((store, faults))
}

/// The library's own access check stays: it refuses every request without a valid signature.
fn service(store: Store, secret_access_key: &str) -> ValidatedService {
    let mut builder = S3ServiceBuilder::new(Api { store: Arc::new(store) });
    builder.set_auth(SimpleAuth::from_single(ACCESS_KEY_ID, secret_access_key));
    ValidatedService(builder.build())
}

/// Runs work that waits for the disk on one of the runtime's blocking threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> S3Result<T> + Send + 'static) -> S3Result<T> {
    spawn_blocking(work).await.map_err(S3Error::internal_error)?
}

/// An error with a code that the library has no name for.
fn error_with_code(code: &'static str, status: StatusCode, message: &'static str) -> S3Error {
    let mut error = S3Error::with_message(S3ErrorCode::Custom(code.into()), message);
    error.set_status_code(status);
    error
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
mod test_objects;
#[cfg(test)]
mod tests;
