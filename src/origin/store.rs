//! The origin's directory: made, proven writable, and claimed for one process, before anything is served from it.
//!
//! The proof is a write and not a look at mode bits: those say nothing about a read-only mount, a full disk, or root.
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::Path;

use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;

use super::OriginError;
use super::keys::FileKeys;

// Names that begin with a dot: no bucket and, in the bucket's folder, no key a client is likely to use.
const LOCK_FILE: &str = ".tidegate-origin.lock";
const PROBE_FILE: &str = ".tidegate-write-probe";

/// The hold on a data directory. The lock ends with the file handle, so a killed process leaves none behind.
#[derive(Debug)]
pub(super) struct Claim(#[expect(dead_code, reason = "held for its lock")] File);

pub(super) fn claim(directory: &Path, bucket: &str) -> Result<Claim, OriginError> {
    let bucket_directory = directory.join(bucket);
    fs::create_dir_all(&bucket_directory)
        .map_err(|source| OriginError::Create { directory: bucket_directory.clone(), source })?;
    let lock = lock(directory)?;
    probe(&bucket_directory)
        .map_err(|source| OriginError::Write { directory: bucket_directory.clone(), source })?;
    Ok(Claim(lock))
}

fn lock(directory: &Path) -> Result<File, OriginError> {
    let write_error = |source| OriginError::Write { directory: directory.to_owned(), source };
    let path = directory.join(LOCK_FILE);
    let file = File::options().create(true).append(true).open(path).map_err(write_error)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(OriginError::InUse { directory: directory.to_owned() });
        }
        Err(TryLockError::Error(source)) => return Err(write_error(source)),
    }
    Ok(file)
}

fn probe(directory: &Path) -> io::Result<()> {
    let path = directory.join(PROBE_FILE);
    let written = File::create(&path).and_then(|mut file| file.write_all(b"tidegate"));
    // Also after a failed write: a full disk leaves an empty file.
    let removed = fs::remove_file(&path);
    written.and(removed)
}

pub(super) fn service(
    directory: &Path,
    access_key_id: &str,
    secret_access_key: &str,
) -> Result<S3Service, OriginError> {
    let store = FileSystem::new(directory).map_err(|error| OriginError::Open {
        directory: directory.to_owned(),
        message: format!("{error:?}"),
    })?;
    let mut builder = S3ServiceBuilder::new(store);
    builder.set_access(FileKeys::new(directory));
    builder.set_auth(SimpleAuth::from_single(access_key_id, secret_access_key));
    Ok(builder.build())
}
