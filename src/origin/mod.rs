//! The embedded origin: an S3 server inside the process, for demos and tests. Production images omit it (cargo feature `origin`).
//!
//! The gateway treats it as any other upstream: it sends signed requests over a loopback socket, on the same path as production traffic.
//! The origin has a separate thread and runtime, so its disk work never delays a worker. The kernel selects its port. Each start creates a
//! new secret and the origin verifies it, so another local process that finds the port cannot bypass the gateway. Its data survives a kill.
//!
//! ```text
//! listener.rs ── request_validation.rs ── s3s (HTTP, signatures, XML) ── api.rs ── objects, copies, multipart, pages, tags, buckets
//!                                                           └── store.rs (index) ── disk.rs, data.rs, load.rs
//! ```
//!
//! It has no TLS, no durability beyond that of the file system, no versioning, policies, lifecycle rules, encryption or object locks, and
//! no ACLs beyond the owner's. Operations that `api.rs` does not list are answered 501.
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

/// A running embedded origin. Its drop stops the server. The directory is unlocked after the last operation on the store.
#[derive(Debug)]
pub struct Origin {
    /// Address of the listener, on the loopback interface.
    pub address: SocketAddr,
    /// The key id to sign requests with.
    pub access_key_id: String,
    /// The secret to sign requests with, valid until the origin stops.
    pub secret_access_key: String,
    /// Files in the data directory that are not served.
    pub faults: Vec<StorageFault>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// A file in the data directory that is not served. It stays unchanged.
#[derive(Debug)]
pub struct StorageFault {
    /// The file.
    pub path: PathBuf,
    /// Why it is not served.
    pub problem: String,
    /// The remedy.
    pub hint: &'static str,
}

/// Why the embedded origin did not start.
#[derive(Debug, Error)]
pub enum OriginError {
    /// The data directory could not be created.
    #[error("cannot create the data directory {}: {source}", .directory.display())]
    Create {
        /// The directory.
        directory: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The data directory exists, but a trial write failed.
    #[error("cannot write to the data directory {}: {source}", .directory.display())]
    Write {
        /// The directory.
        directory: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Another process serves this directory. Two servers would delete each other's unfinished writes.
    #[error("the data directory {} is in use by another process: stop it or choose another directory", .directory.display())]
    InUse {
        /// The directory.
        directory: PathBuf,
    },
    /// The content of the data directory could not be read or imported.
    #[error("cannot open the data directory {}: {source}", .directory.display())]
    Open {
        /// The directory.
        directory: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The server's socket, runtime or thread could not be created.
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

/// The library's default access check refuses every request without a valid signature.
fn service(store: Store, secret_access_key: &str) -> ValidatedService {
    let mut builder = S3ServiceBuilder::new(Api { store: Arc::new(store) });
    builder.set_auth(SimpleAuth::from_single(ACCESS_KEY_ID, secret_access_key));
    ValidatedService(builder.build())
}

/// Runs disk work on one of the runtime's blocking threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> S3Result<T> + Send + 'static) -> S3Result<T> {
    spawn_blocking(work).await.map_err(S3Error::internal_error)?
}

/// An error with a code that the library does not define.
fn error_with_code(code: &'static str, status: StatusCode, message: &'static str) -> S3Error {
    let mut error = S3Error::with_message(S3ErrorCode::Custom(code.into()), message);
    error.set_status_code(status);
    error
}

impl Drop for Origin {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // An error means that the server's thread has panicked: it has ended in either case.
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod test_objects;
#[cfg(test)]
mod tests;
