//! Layout of the store on disk, and atomic changes of its documents.
//!
//! ```text
//! DIRECTORY/store_v2/            the underscore prevents a clash with a bucket's name
//!   data/UUID                    bytes of objects and parts
//!   pending/UUID                 documents that are being written
//!   buckets/NAME/bucket.json
//!   buckets/NAME/objects/SHA256(key).json
//!   buckets/NAME/uploads/ID/{upload.json,PART.json}
//! ```
//!
//! A key is never used as a path: the name of a document is the hash of its key, and the document contains the key. So every S3 key can be
//! stored, for example `a`, `a/` and `a//b`. A document is written to `pending` and renamed to its path, so after a kill either the old or
//! the new one is there. After a power cut the last documents may be missing, because nothing is synced.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::record::{BucketRecord, UploadRecord};

pub(super) const STORE: &str = "store_v2";
pub(super) const UPLOAD_FILE: &str = "upload.json";
pub(super) const BUCKET_FILE: &str = "bucket.json";

/// The paths of a store.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    root: PathBuf,
}

impl Disk {
    /// Creates the directories of the store. Removes pending documents that a kill left.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let disk = Self { root: directory.join(STORE) };
        for path in [disk.data(), disk.pending(), disk.buckets()] {
            fs::create_dir_all(path)?;
        }
        for entry in fs::read_dir(disk.pending())? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => fs::remove_dir_all(entry.path())?,
                false => fs::remove_file(entry.path())?,
            }
        }
        Ok(disk)
    }

    pub(super) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    fn pending(&self) -> PathBuf {
        self.root.join("pending")
    }

    pub(super) fn buckets(&self) -> PathBuf {
        self.root.join("buckets")
    }

    pub(super) fn bucket(&self, bucket: &str) -> PathBuf {
        self.buckets().join(bucket)
    }

    pub(super) fn bucket_document(&self, bucket: &str) -> PathBuf {
        self.bucket(bucket).join(BUCKET_FILE)
    }

    pub(super) fn objects(&self, bucket: &str) -> PathBuf {
        self.bucket(bucket).join("objects")
    }

    pub(super) fn object(&self, bucket: &str, key: &str) -> PathBuf {
        self.objects(bucket).join(format!("{}.json", hex::encode(Sha256::digest(key))))
    }

    pub(super) fn uploads(&self, bucket: &str) -> PathBuf {
        self.bucket(bucket).join("uploads")
    }

    pub(super) fn upload(&self, bucket: &str, id: &str) -> PathBuf {
        self.uploads(bucket).join(id)
    }

    pub(super) fn part(&self, bucket: &str, id: &str, number: i32) -> PathBuf {
        self.upload(bucket, id).join(format!("{number}.json"))
    }

    /// Creates a bucket atomically.
    pub(super) fn create_bucket(&self, bucket: &str, record: &BucketRecord) -> io::Result<()> {
        let pending = self.pending().join(Uuid::new_v4().simple().to_string());
        for folder in ["objects", "uploads"] {
            fs::create_dir_all(pending.join(folder))?;
        }
        fs::write(pending.join(BUCKET_FILE), serde_json::to_vec(record)?)?;
        fs::rename(pending, self.bucket(bucket))
    }

    /// Removes a bucket atomically.
    pub(super) fn remove_bucket(&self, bucket: &str) -> io::Result<()> {
        self.remove(&self.bucket(bucket))
    }

    fn remove(&self, directory: &Path) -> io::Result<()> {
        let pending = self.pending().join(Uuid::new_v4().simple().to_string());
        fs::rename(directory, &pending)?;
        // The next start removes it if this fails.
        drop(fs::remove_dir_all(pending));
        Ok(())
    }

    pub(super) fn create_upload(&self, bucket: &str, id: &str, record: &UploadRecord) -> io::Result<()> {
        let document = self.prepare(record)?;
        let directory = self.upload(bucket, id);
        fs::create_dir(&directory)?;
        document.commit(&directory.join(UPLOAD_FILE))
    }

    /// Removes an upload atomically.
    pub(super) fn remove_upload(&self, bucket: &str, id: &str) -> io::Result<()> {
        self.remove(&self.upload(bucket, id))
    }

    /// Whether the bucket has records of objects, damaged ones included.
    pub(super) fn has_objects(&self, bucket: &str) -> io::Result<bool> {
        Ok(fs::read_dir(self.objects(bucket))?.next().is_some())
    }

    /// Writes a document to `pending`.
    pub(super) fn prepare(&self, document: &impl Serialize) -> io::Result<PendingDocument> {
        let prepared = PendingDocument {
            path: self.pending().join(Uuid::new_v4().simple().to_string()),
            is_committed: false,
        };
        let text = serde_json::to_vec(document)?;
        File::create_new(&prepared.path)?.write_all(&text)?;
        Ok(prepared)
    }
}

/// A document in `pending`. A drop without a commit removes it.
#[derive(Debug)]
pub(super) struct PendingDocument {
    path: PathBuf,
    is_committed: bool,
}

impl PendingDocument {
    /// Renames the document to `path`, and so replaces an earlier one.
    pub(super) fn commit(mut self, path: &Path) -> io::Result<()> {
        fs::rename(&self.path, path)?;
        self.is_committed = true;
        Ok(())
    }
}

impl Drop for PendingDocument {
    fn drop(&mut self) {
        if !self.is_committed {
            // The next start removes it if this fails.
            drop(fs::remove_file(&self.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    /// The document of each key is a separate file within the bucket's directory.
    #[test]
    fn every_key_has_a_separate_file() {
        let scratch = Scratch::new();
        let disk = Disk::open(scratch.path()).unwrap();
        let long = "k".repeat(1024);
        let keys = ["a", "a/", "a//", "/a", "a/b", "../a", "..", ".", "A", "\0", &long];
        let mut paths: Vec<_> = keys.iter().map(|key| disk.object("demo", key)).collect();
        for path in &paths {
            assert_eq!(path.parent().unwrap(), disk.objects("demo"));
            assert!(path.file_name().unwrap().len() < 100);
        }
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), keys.len());
    }

    #[test]
    fn a_document_without_a_commit_leaves_nothing() {
        let scratch = Scratch::new();
        let disk = Disk::open(scratch.path()).unwrap();
        drop(disk.prepare(&"text").unwrap());
        assert_eq!(fs::read_dir(disk.pending()).unwrap().count(), 0);
        let path = disk.buckets().join("document");
        disk.prepare(&"text").unwrap().commit(&path).unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), "\"text\"");
        fs::write(disk.pending().join("left"), "").unwrap();
        Disk::open(scratch.path()).unwrap();
        assert_eq!(fs::read_dir(disk.pending()).unwrap().count(), 0);
    }
}
