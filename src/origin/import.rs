//! Imports a data directory of the earlier layout, in which a bucket was a directory and a key was a path below it.
//!
//! Each object is stored in the new layout before its old file is removed, and nothing is served meanwhile. So a kill during the import
//! loses nothing, and the next start continues. A file that cannot be imported stays and has a `StorageFault`: its key is too long for S3
//! or not UTF-8, its metadata is too large, the store is full, or it is not a regular file. Unfinished uploads of that layout stay too.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use s3s::crypto::{Checksum, Md5};
use s3s::dto::{ETagCondition, Timestamp};
use s3s::path::check_bucket_name;
use s3s::{S3Error, S3ErrorCode};
use serde::Deserialize;

use super::StorageFault;
use super::conditions::WriteConditions;
use super::data::DataFile;
use super::load::{entries, with_path};
use super::record::{Attributes, Checksums, Object, ObjectInfo, Segment};
use super::store::Store;

/// Headers of an object, in a file next to the buckets.
#[derive(Default, Deserialize)]
#[serde(default)]
struct EarlierAttributes {
    user_metadata: Option<std::collections::BTreeMap<String, String>>,
    content_encoding: Option<String>,
    content_type: Option<String>,
    content_disposition: Option<String>,
    content_language: Option<String>,
    cache_control: Option<String>,
    expires: Option<Timestamp>,
    website_redirect_location: Option<String>,
}

/// ETag and checksums of an object, in a second file.
#[derive(Default, Deserialize)]
#[serde(default)]
struct EarlierDigests {
    e_tag: Option<String>,
    checksum_crc32: Option<String>,
    checksum_crc32c: Option<String>,
    checksum_crc64nvme: Option<String>,
    checksum_sha1: Option<String>,
    checksum_sha256: Option<String>,
}

/// Maximum bytes of a key: the limit of S3.
const KEY_BYTES_MAX: usize = 1024;
const FILE_HINT: &str =
    "move the file out of the data directory, and upload it under a key and with metadata that S3 allows";
const HEADERS_HINT: &str =
    "the object was imported without these headers; copy it onto itself with new metadata";
const BUCKET_HINT: &str = "move the directory out of the data directory, or delete a bucket and restart";

/// Why an object or a bucket was not imported.
enum Skipped {
    /// It stays in the earlier layout; the import continues with the others.
    Fault(String),
    /// The disk fails: the start fails.
    Disk(io::Error),
}

impl From<io::Error> for Skipped {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl From<S3Error> for Skipped {
    fn from(error: S3Error) -> Self {
        match error.code() {
            S3ErrorCode::InternalError => Self::Disk(io::Error::other(error)),
            code => Self::Fault(format!("{}: {}", code.as_str(), error.message().unwrap_or_default())),
        }
    }
}

/// Imports every bucket of the earlier layout. The faults name the files that stay in it.
pub(super) fn import(store: &Store, directory: &Path) -> io::Result<Vec<StorageFault>> {
    let mut import = Import { store, directory, faults: Vec::new() };
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if let Some(bucket) = name.to_str().filter(|name| check_bucket_name(name))
            && entry.file_type()?.is_dir()
        {
            import.bucket(bucket)?;
        }
    }
    Ok(import.faults)
}

struct Import<'a> {
    store: &'a Store,
    directory: &'a Path,
    faults: Vec<StorageFault>,
}

impl Import<'_> {
    /// Adds a fault for a skipped file. Returns a disk error with its path.
    fn note(&mut self, path: &Path, hint: &'static str, outcome: Result<(), Skipped>) -> io::Result<bool> {
        match outcome {
            Ok(()) => Ok(true),
            Err(Skipped::Disk(error)) => Err(with_path(path)(error)),
            Err(Skipped::Fault(problem)) => {
                self.faults.push(StorageFault { path: path.to_owned(), problem, hint });
                Ok(false)
            }
        }
    }

    fn bucket(&mut self, bucket: &str) -> io::Result<()> {
        let root = self.directory.join(bucket);
        if self.store.read_bucket(bucket, |_| Ok(())).is_err() {
            let created = self.store.create_bucket(bucket).map_err(Skipped::from);
            if !self.note(&root, BUCKET_HINT, created)? {
                return Ok(());
            }
        }
        let mut folders = vec![root.clone()];
        let mut at = 0;
        while let Some(folder) = folders.get(at).cloned() {
            at += 1;
            for path in entries(&folder)? {
                let kind = path.symlink_metadata()?.file_type();
                if kind.is_dir() {
                    folders.push(path);
                    continue;
                }
                let key = path.strip_prefix(&root).ok().and_then(Path::to_str).filter(|_| kind.is_file());
                let key =
                    key.ok_or_else(|| Skipped::Fault("not a regular file with a UTF-8 name".to_owned()));
                let imported = key.and_then(|key| self.object((bucket, key), &path));
                self.note(&path, FILE_HINT, imported)?;
            }
        }
        // The deepest first. A folder with files left in it stays.
        folders.iter().rev().for_each(|folder| drop(fs::remove_dir(folder)));
        Ok(())
    }

    fn object(&mut self, (bucket, key): (&str, &str), path: &Path) -> Result<(), Skipped> {
        if key.len() > KEY_BYTES_MAX {
            return Err(Skipped::Fault(format!("the key is longer than {KEY_BYTES_MAX} bytes")));
        }
        let sidecar = |kind: &str| {
            let encode = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
            self.directory.join(format!(".bucket-{}.object-{}.{kind}.json", encode(bucket), encode(key)))
        };
        let (headers_path, digests_path) = (sidecar("metadata"), sidecar("internal"));
        let attributes = self.read_sidecar::<EarlierAttributes>(&headers_path);
        let digests = self.read_sidecar::<EarlierDigests>(&digests_path);
        let read = [attributes.as_ref().map(|_| headers_path), digests.as_ref().map(|_| digests_path)];
        let (attributes, digests) = (attributes.unwrap_or_default(), digests.unwrap_or_default());
        let metadata = path.metadata()?;
        let etag = match digests.e_tag {
            Some(etag) => etag,
            None => md5(path)?,
        };
        let info = ObjectInfo {
            etag,
            modified: metadata.modified()?.into(),
            attributes: Attributes {
                cache_control: attributes.cache_control,
                content_disposition: attributes.content_disposition,
                content_encoding: attributes.content_encoding,
                content_language: attributes.content_language,
                content_type: attributes.content_type,
                expires: attributes.expires,
                website_redirect_location: attributes.website_redirect_location,
                metadata: attributes.user_metadata.unwrap_or_default(),
            }
            .checked()?,
            tags: Vec::new(),
            checksums: Checksums {
                crc32: digests.checksum_crc32,
                crc32c: digests.checksum_crc32c,
                crc64nvme: digests.checksum_crc64nvme,
                sha1: digests.checksum_sha1,
                sha256: digests.checksum_sha256,
            },
            is_multipart: false,
        };
        let data = Arc::new(DataFile::link(&self.store.disk().data(), path)?);
        let object = Object { info, segments: vec![Segment { data, bytes: metadata.len() }] };
        let is_imported =
            |current: &Object| current.info.etag == object.info.etag && current.bytes() == object.bytes();
        // A kill after the import and before the removal has left the object in both layouts.
        if !self.store.object(bucket, key).is_ok_and(|current| is_imported(&current)) {
            let is_new = WriteConditions::new(None, Some(ETagCondition::Any))?;
            self.store.put(bucket, key, object, &is_new)?;
        }
        fs::remove_file(path)?;
        read.into_iter().flatten().try_for_each(fs::remove_file)?;
        Ok(())
    }

    /// Reads an attributes file of an object; none if there is none. A file that cannot be read stays and has a fault, and the object is
    /// imported without it.
    fn read_sidecar<T: for<'a> Deserialize<'a>>(&mut self, path: &Path) -> Option<T> {
        match fs::read(path).and_then(|text| Ok(serde_json::from_slice(&text)?)) {
            Ok(read) => Some(read),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    let problem = format!("the file cannot be read: {error}");
                    self.faults.push(StorageFault { path: path.to_owned(), problem, hint: HEADERS_HINT });
                }
                None
            }
        }
    }
}

fn md5(path: &Path) -> io::Result<String> {
    /// A sink for `io::copy`.
    struct Hash(Md5);
    impl io::Write for Hash {
        fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
            self.0.update(piece);
            Ok(piece.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut hash = Hash(Md5::new());
    io::copy(&mut File::open(path)?, &mut hash)?;
    Ok(hex::encode(hash.0.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    use crate::origin::directory::{LOCK_FILE, prepare};
    use crate::origin::limits::Limits;
    use crate::scratch::Scratch;

    /// Bytes, keys and headers of the earlier layout survive an upgrade; other files stay unchanged.
    #[test]
    fn a_directory_of_the_earlier_layout_is_imported() {
        let scratch = Scratch::new();
        let directory = scratch.path();
        fs::create_dir_all(directory.join("demo/folder/empty")).unwrap();
        fs::create_dir_all(directory.join("NO_BUCKET")).unwrap();
        fs::write(directory.join("demo/folder/ü.txt"), "bytes").unwrap();
        fs::write(directory.join("demo/plain"), "").unwrap();
        let name = |key: &str, kind: &str| {
            let key = BASE64_URL_SAFE_NO_PAD.encode(key);
            directory.join(format!(".bucket-ZGVtbw.object-{key}.{kind}.json"))
        };
        let headers = r#"{"content_type":"text/plain","user_metadata":{"a":"1"}}"#;
        fs::write(name("folder/ü.txt", "metadata"), headers).unwrap();
        fs::write(name("folder/ü.txt", "internal"), r#"{"e_tag":"tag-2","checksum_crc32":"AAAAAA=="}"#)
            .unwrap();
        fs::write(directory.join(".upload-x.json"), "null").unwrap();
        for _ in 0..2 {
            let (store, faults) = open(directory);
            assert!(faults.is_empty(), "{faults:?}");
            let object = store.object("demo", "folder/ü.txt").unwrap();
            assert_eq!((object.info.etag.as_str(), object.bytes()), ("tag-2", 5));
            assert_eq!(object.info.attributes.content_type.as_deref(), Some("text/plain"));
            assert_eq!(object.info.attributes.metadata["a"], "1");
            assert_eq!(object.info.checksums.crc32.as_deref(), Some("AAAAAA=="));
            assert_eq!(fs::read(object.segments[0].data.path()).unwrap(), b"bytes");
            let plain = store.object("demo", "plain").unwrap();
            assert_eq!(plain.info.etag, "d41d8cd98f00b204e9800998ecf8427e");
        }
        let mut left: Vec<_> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [LOCK_FILE, ".upload-x.json", "NO_BUCKET", "store_v2"]);
    }

    /// Opens the store and imports, as a start does.
    fn open(directory: &Path) -> (Store, Vec<StorageFault>) {
        let lock = prepare(directory).unwrap();
        let (store, mut faults) = Store::open(directory, lock, Limits::default()).unwrap();
        faults.extend(import(&store, directory).unwrap());
        (store, faults)
    }

    /// A file beyond a limit has a fault at every start and stays. The other files are imported.
    #[test]
    fn files_that_cannot_be_imported_stay_and_have_a_fault() {
        let scratch = Scratch::new();
        let directory = scratch.path();
        let folder = format!(
            "demo/{}/{}/{}/{}/{}",
            "a".repeat(250),
            "b".repeat(250),
            "c".repeat(250),
            "d".repeat(250),
            "e".repeat(20)
        );
        fs::create_dir_all(directory.join(&folder)).unwrap();
        let long = directory.join(format!("{folder}/long.txt"));
        let heavy = directory.join("demo/heavy");
        let plain = directory.join("demo/plain");
        let latin = directory.join("demo").join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
        let link = directory.join("demo/link");
        std::os::unix::fs::symlink("plain", &link).unwrap();
        for path in [&long, &heavy, &plain, &latin] {
            fs::write(path, "bytes").unwrap();
        }
        let beside = |key: &str| {
            directory
                .join(format!(".bucket-ZGVtbw.object-{}.metadata.json", BASE64_URL_SAFE_NO_PAD.encode(key)))
        };
        fs::write(beside("heavy"), format!(r#"{{"user_metadata":{{"a":"{}"}}}}"#, "x".repeat(2048))).unwrap();
        fs::write(beside("plain"), "{ damaged").unwrap();
        for expected in
            [vec![&long, &heavy, &latin, &link, &beside("plain")], vec![&long, &heavy, &latin, &link]]
        {
            let (store, faults) = open(directory);
            let mut named: Vec<_> = faults.iter().map(|fault| &fault.path).collect();
            let mut expected = expected;
            named.sort();
            expected.sort();
            assert_eq!(named, expected, "{faults:?}");
            assert!([&long, &heavy, &latin].iter().all(|path| fs::read(path).unwrap() == b"bytes"));
            assert!(beside("plain").exists());
            assert_eq!(store.object("demo", "plain").unwrap().bytes(), 5);
            assert!(store.object("demo", "heavy").is_err());
        }
    }

    /// An object of the new layout is newer than a file of the earlier one.
    #[test]
    fn an_object_is_not_replaced_by_a_file_of_the_earlier_layout() {
        let scratch = Scratch::new();
        let directory = scratch.path();
        fs::create_dir_all(directory.join("demo")).unwrap();
        let path = directory.join("demo/key");
        fs::write(&path, "earlier").unwrap();
        let (store, _) = open(directory);
        drop(store);
        fs::create_dir_all(directory.join("demo")).unwrap();
        fs::write(&path, "other").unwrap();
        let (store, faults) = open(directory);
        assert_eq!(store.object("demo", "key").unwrap().bytes(), 7);
        assert_eq!(faults.iter().map(|fault| &fault.path).collect::<Vec<_>>(), [&path]);
        drop(store);
        fs::write(&path, "earlier").unwrap();
        let (_store, faults) = open(directory);
        assert!(faults.is_empty() && !path.exists(), "{faults:?}");
    }
}
