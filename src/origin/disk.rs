//! Where the store keeps what on disk, and how a document there changes as a whole.
//!
//! ```text
//! DIRECTORY/store_v2/            no bucket's name: it has an underscore
//!   data/UUID                    bytes of objects and parts
//!   pending/UUID                 documents that are being written
//!   buckets/NAME/bucket.json
//!   buckets/NAME/objects/SHA256(key).json
//!   buckets/NAME/uploads/ID/{upload.json,PART.json}
//! ```
//!
//! A key is never a path: documents are named after the hash of the key and hold the key. So every key of S3 can be stored,
//! and `a`, `a/` and `a//b` are three of them. A document is written beside its place and renamed onto it: after a kill the
//! old or the new one is there. After a power cut the last documents may be missing, because nothing is synced.

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
    /// Creates the directories that every store has. Documents that were being written at a kill are removed.
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

    /// A bucket appears whole or not at all.
    pub(super) fn create_bucket(&self, bucket: &str, record: &BucketRecord) -> io::Result<()> {
        let pending = self.pending().join(Uuid::new_v4().simple().to_string());
        for folder in ["objects", "uploads"] {
            fs::create_dir_all(pending.join(folder))?;
        }
        fs::write(pending.join(BUCKET_FILE), serde_json::to_vec(record)?)?;
        fs::rename(pending, self.bucket(bucket))
    }

    /// A bucket disappears whole or not at all.
    pub(super) fn remove_bucket(&self, bucket: &str) -> io::Result<()> {
        self.remove(&self.bucket(bucket))
    }

    fn remove(&self, directory: &Path) -> io::Result<()> {
        let pending = self.pending().join(Uuid::new_v4().simple().to_string());
        fs::rename(directory, &pending)?;
        // What cannot be removed now is removed at the next start.
        drop(fs::remove_dir_all(pending));
        Ok(())
    }

    pub(super) fn create_upload(&self, bucket: &str, id: &str, record: &UploadRecord) -> io::Result<()> {
        let document = self.prepare(record)?;
        let directory = self.upload(bucket, id);
        fs::create_dir(&directory)?;
        document.commit(&directory.join(UPLOAD_FILE))
    }

    /// An upload disappears whole or not at all.
    pub(super) fn remove_upload(&self, bucket: &str, id: &str) -> io::Result<()> {
        self.remove(&self.upload(bucket, id))
    }

    /// Whether the bucket has records of objects, damaged ones included.
    pub(super) fn has_objects(&self, bucket: &str) -> io::Result<bool> {
        Ok(fs::read_dir(self.objects(bucket))?.next().is_some())
    }

    /// Writes a document beside its place.
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

/// A document that is not yet at its place. It is removed on a drop before that.
#[derive(Debug)]
pub(super) struct PendingDocument {
    path: PathBuf,
    is_committed: bool,
}

impl PendingDocument {
    /// Puts the document at its place, over the one that was there.
    pub(super) fn commit(mut self, place: &Path) -> io::Result<()> {
        fs::rename(&self.path, place)?;
        self.is_committed = true;
        Ok(())
    }
}

impl Drop for PendingDocument {
    fn drop(&mut self) {
        if !self.is_committed {
            // What cannot be removed now is removed at the next start.
            drop(fs::remove_file(&self.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::scratch::Scratch;

    /// No key leads out of the bucket's directory, and no two keys share a file.
    #[test]
    fn every_key_has_a_file_of_its_own() {
        let scratch = Scratch::new();
        let disk = Disk::open(scratch.path()).unwrap();
        let long = "k".repeat(1024);
        let keys = ["a", "a/", "a//", "/a", "a/b", "../a", "..", ".", "A", "\0", &long];
        let mut places: Vec<_> = keys.iter().map(|key| disk.object("demo", key)).collect();
        for place in &places {
            assert_eq!(place.parent().unwrap(), disk.objects("demo"));
            assert!(place.file_name().unwrap().len() < 100);
        }
        places.sort();
        places.dedup();
        assert_eq!(places.len(), keys.len());
    }

    #[test]
    fn a_document_that_is_not_placed_leaves_nothing() {
        let scratch = Scratch::new();
        let disk = Disk::open(scratch.path()).unwrap();
        drop(disk.prepare(&"text").unwrap());
        assert_eq!(fs::read_dir(disk.pending()).unwrap().count(), 0);
        let place = disk.buckets().join("document");
        disk.prepare(&"text").unwrap().commit(&place).unwrap();
        assert_eq!(fs::read_to_string(place).unwrap(), "\"text\"");
        fs::write(disk.pending().join("left"), "").unwrap();
        Disk::open(scratch.path()).unwrap();
        assert_eq!(fs::read_dir(disk.pending()).unwrap().count(), 0);
    }
}
