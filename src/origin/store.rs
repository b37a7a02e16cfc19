//! The store: an ordered index in memory over the documents on disk.
//!
//! A change is made on disk first (one rename, `disk.rs`) and then in the index, both under the lock of the index. So the two always agree,
//! and the conditions of a write are evaluated atomically with it. Data files are written before the lock is taken and removed after it is
//! released. All functions except lookups may wait for the disk, so `api.rs` calls them on blocking threads.
//!
//! `Limits` bound the index. It takes about 1 KiB for each object.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use s3s::dto::Timestamp;
use s3s::{S3Error, S3Result, s3_error};
use tidegate_actors::clock;

use super::conditions::WriteConditions;
use super::directory::DirectoryLock;
use super::disk::Disk;
use super::limits::{Limits, check_limit};
use super::record::{BucketRecord, Object, UploadRecord};
use super::{StorageFault, load};

/// The buckets of the store, by name.
pub(super) type Index = BTreeMap<String, Bucket>;

/// A bucket in the index.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) created: Timestamp,
    pub(super) objects: BTreeMap<String, Arc<Object>>,
    /// By key and ID.
    pub(super) uploads: BTreeMap<(String, String), Upload>,
}

/// An unfinished multipart upload.
#[derive(Debug, Clone)]
pub(super) struct Upload {
    pub(super) record: Arc<UploadRecord>,
    pub(super) parts: BTreeMap<i32, Arc<Object>>,
}

/// The store.
#[derive(Debug)]
pub(super) struct Store {
    disk: Disk,
    limits: Limits,
    index: Mutex<Index>,
    /// Held while an operation may write, also after the server has stopped.
    _lock: DirectoryLock,
}

pub(super) fn now() -> Timestamp {
    clock::wall().into()
}

impl Store {
    /// Opens the store of a data directory. The faults name the files that are not served.
    pub(super) fn open(
        directory: &Path,
        lock: DirectoryLock,
        limits: Limits,
    ) -> std::io::Result<(Self, Vec<StorageFault>)> {
        let disk = Disk::open(directory)?;
        let (index, faults) = load::load(&disk)?;
        Ok((Self { disk, limits, index: Mutex::new(index), _lock: lock }, faults))
    }

    pub(super) fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Ignores poisoning: after a panic the index agrees with the disk, or lacks only the last change.
    fn lock(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Maps each bucket with `view`, in the order of names.
    pub(super) fn buckets<T>(&self, view: impl Fn(&str, &Bucket) -> T) -> Vec<T> {
        self.lock().iter().map(|(name, bucket)| view(name, bucket)).collect()
    }

    /// Reads a bucket.
    pub(super) fn read_bucket<T>(
        &self,
        bucket: &str,
        read: impl FnOnce(&Bucket) -> S3Result<T>,
    ) -> S3Result<T> {
        self.change_bucket(bucket, |bucket| read(bucket))
    }

    /// Changes a bucket.
    fn change_bucket<T>(&self, bucket: &str, change: impl FnOnce(&mut Bucket) -> S3Result<T>) -> S3Result<T> {
        let mut index = self.lock();
        let bucket = index.get_mut(bucket);
        change(bucket.ok_or_else(|| s3_error!(NoSuchBucket, "the specified bucket does not exist"))?)
    }

    pub(super) fn create_bucket(&self, bucket: &str) -> S3Result<()> {
        let mut index = self.lock();
        if index.contains_key(bucket) {
            return Err(s3_error!(BucketAlreadyOwnedByYou, "the bucket exists"));
        }
        let buckets_max = self.limits.buckets;
        if index.len() >= buckets_max {
            return Err(s3_error!(
                TooManyBuckets,
                "the embedded origin has a limit of {buckets_max} buckets"
            ));
        }
        let record = BucketRecord { created: now() };
        self.disk.create_bucket(bucket, &record).map_err(S3Error::internal_error)?;
        index.insert(bucket.to_owned(), Bucket::new(record.created));
        Ok(())
    }

    /// Deletes an empty bucket and its unfinished uploads.
    pub(super) fn delete_bucket(&self, bucket: &str) -> S3Result<()> {
        let mut index = self.lock();
        let entry = index.get(bucket).ok_or_else(|| s3_error!(NoSuchBucket, "the bucket does not exist"))?;
        // Also checked on disk: a damaged record is not in the index, but its data may be restored.
        if !entry.objects.is_empty() || self.disk.has_objects(bucket).map_err(S3Error::internal_error)? {
            return Err(s3_error!(BucketNotEmpty, "the bucket is not empty"));
        }
        self.disk.remove_bucket(bucket).map_err(S3Error::internal_error)?;
        let removed = index.remove(bucket);
        drop(index);
        removed
            .into_iter()
            .flat_map(|bucket| bucket.uploads.into_values())
            .for_each(|upload| upload.discard());
        Ok(())
    }

    pub(super) fn object(&self, bucket: &str, key: &str) -> S3Result<Arc<Object>> {
        self.read_bucket(bucket, |bucket| {
            let object = bucket.objects.get(key).cloned();
            object.ok_or_else(|| s3_error!(NoSuchKey, "the specified key does not exist"))
        })
    }

    pub(super) fn put(
        &self,
        bucket: &str,
        key: &str,
        object: Object,
        conditions: &WriteConditions,
    ) -> S3Result<Arc<Object>> {
        let document = self.disk.prepare(&object.record(key)).map_err(S3Error::internal_error)?;
        let object = Arc::new(object);
        let replaced = self.change_bucket(bucket, |entry| {
            let current = entry.objects.get(key);
            conditions.check(current.map(AsRef::as_ref))?;
            entry.check_capacity(current.is_none(), &self.limits)?;
            document.commit(&self.disk.object(bucket, key)).map_err(S3Error::internal_error)?;
            object.persist();
            Ok(entry.objects.insert(key.to_owned(), Arc::clone(&object)))
        })?;
        if let Some(replaced) = replaced {
            replaced.discard();
        }
        Ok(object)
    }

    /// Replaces an object's tags; its bytes stay.
    pub(super) fn set_tags(&self, bucket: &str, key: &str, tags: Vec<(String, String)>) -> S3Result<()> {
        self.change_bucket(bucket, |entry| {
            let current = entry.objects.get_mut(key);
            let current = current.ok_or_else(|| s3_error!(NoSuchKey, "the specified key does not exist"))?;
            let mut object = Object::clone(current);
            object.info.tags = tags;
            let document = self.disk.prepare(&object.record(key)).map_err(S3Error::internal_error)?;
            document.commit(&self.disk.object(bucket, key)).map_err(S3Error::internal_error)?;
            *current = Arc::new(object);
            Ok(())
        })
    }

    /// Deletes an object if it exists.
    pub(super) fn delete(&self, bucket: &str, key: &str, conditions: &WriteConditions) -> S3Result<()> {
        let removed = self.change_bucket(bucket, |entry| {
            let current = entry.objects.get(key);
            conditions.check(current.map(AsRef::as_ref))?;
            if current.is_some() {
                fs::remove_file(self.disk.object(bucket, key)).map_err(S3Error::internal_error)?;
            }
            Ok(entry.objects.remove(key))
        })?;
        if let Some(removed) = removed {
            removed.discard();
        }
        Ok(())
    }

    pub(super) fn begin_upload(&self, bucket: &str, id: &str, record: UploadRecord) -> S3Result<()> {
        self.change_bucket(bucket, |entry| {
            check_limit(entry.uploads.len(), self.limits.uploads, "unfinished uploads per bucket")?;
            self.disk.create_upload(bucket, id, &record).map_err(S3Error::internal_error)?;
            let at = (record.key.clone(), id.to_owned());
            entry.uploads.insert(at, Upload { record: Arc::new(record), parts: BTreeMap::new() });
            Ok(())
        })
    }

    pub(super) fn upload(&self, bucket: &str, key: &str, id: &str) -> S3Result<Upload> {
        self.change_bucket(bucket, |entry| entry.upload(key, id).cloned())
    }

    pub(super) fn upload_record(&self, bucket: &str, key: &str, id: &str) -> S3Result<Arc<UploadRecord>> {
        self.change_bucket(bucket, |entry| entry.upload(key, id).map(|upload| Arc::clone(&upload.record)))
    }

    pub(super) fn put_part(
        &self,
        bucket: &str,
        (key, id): (&str, &str),
        number: i32,
        part: Object,
    ) -> S3Result<()> {
        let document = self.disk.prepare(&part.record(key)).map_err(S3Error::internal_error)?;
        let part = Arc::new(part);
        let replaced = self.change_bucket(bucket, |entry| {
            let is_new = !entry.upload(key, id)?.parts.contains_key(&number);
            if is_new {
                let parts = entry.uploads.values().map(|upload| upload.parts.len()).sum();
                check_limit(parts, self.limits.parts, "parts of unfinished uploads per bucket")?;
            }
            let upload = entry.upload(key, id)?;
            document.commit(&self.disk.part(bucket, id, number)).map_err(S3Error::internal_error)?;
            part.persist();
            Ok(upload.parts.insert(number, Arc::clone(&part)))
        })?;
        if let Some(replaced) = replaced {
            replaced.discard();
        }
        Ok(())
    }

    /// Turns an upload into `object`. Parts that are not in the object are removed.
    pub(super) fn complete(
        &self,
        bucket: &str,
        (key, id): (&str, &str),
        object: Object,
        conditions: &WriteConditions,
    ) -> S3Result<()> {
        let document = self.disk.prepare(&object.record(key)).map_err(S3Error::internal_error)?;
        let object = Arc::new(object);
        let (replaced, upload) = self.change_bucket(bucket, |entry| {
            let current = entry.objects.get(key);
            let is_new = current.is_none();
            conditions.check(current.map(AsRef::as_ref))?;
            entry.check_capacity(is_new, &self.limits)?;
            let upload = entry.upload(key, id)?.clone();
            document.commit(&self.disk.object(bucket, key)).map_err(S3Error::internal_error)?;
            entry.uploads.remove(&(key.to_owned(), id.to_owned()));
            upload.discard();
            object.persist();
            Ok((entry.objects.insert(key.to_owned(), Arc::clone(&object)), upload))
        })?;
        // Removes the data files of parts that are not in the object, outside the lock.
        drop(upload);
        if let Some(replaced) = replaced {
            replaced.discard();
        }
        // The next start removes it if this fails.
        drop(self.disk.remove_upload(bucket, id));
        Ok(())
    }

    pub(super) fn abort(&self, bucket: &str, (key, id): (&str, &str)) -> S3Result<()> {
        let upload = self.change_bucket(bucket, |entry| {
            let upload = entry.upload(key, id)?.clone();
            self.disk.remove_upload(bucket, id).map_err(S3Error::internal_error)?;
            entry.uploads.remove(&(key.to_owned(), id.to_owned()));
            Ok(upload)
        })?;
        upload.discard();
        Ok(())
    }
}

impl Bucket {
    pub(super) fn new(created: Timestamp) -> Self {
        Self { created, objects: BTreeMap::new(), uploads: BTreeMap::new() }
    }

    fn upload(&mut self, key: &str, id: &str) -> S3Result<&mut Upload> {
        let upload = self.uploads.get_mut(&(key.to_owned(), id.to_owned()));
        upload.ok_or_else(|| s3_error!(NoSuchUpload, "the specified upload does not exist"))
    }

    fn check_capacity(&self, is_new: bool, limits: &Limits) -> S3Result<()> {
        if is_new { check_limit(self.objects.len(), limits.objects, "objects per bucket") } else { Ok(()) }
    }
}

impl Upload {
    fn discard(&self) {
        self.parts.values().for_each(|part| part.discard());
    }
}
