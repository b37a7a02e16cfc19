//! The index, rebuilt from the documents on disk when the store opens, and the removal of what a kill left behind.
//!
//! Data files that no document names are removed. A document that cannot be read stays where it is, unused; because it may name
//! data, no data is removed then. An object with data that is missing or has another length (a power cut) is not served.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use serde::de::DeserializeOwned;

use super::disk::{Disk, UPLOAD_FILE};
use super::record::{BucketRecord, Object, ObjectRecord, UploadRecord};
use super::store::{Bucket, Index, Upload};

/// Loads the index.
pub(super) fn load(disk: &Disk) -> io::Result<Index> {
    let mut loader = Loader { disk, names: HashSet::new(), is_complete: true };
    let mut index = Index::new();
    for path in entries(&disk.buckets())? {
        if let Some(name) = file_name(&path) {
            let bucket = loader.bucket(&name)?;
            index.insert(name, bucket);
        }
    }
    // After the objects: a kill may leave an upload whose parts became an object's.
    for (name, bucket) in &mut index {
        loader.uploads(name, bucket)?;
    }
    if loader.is_complete {
        loader.remove_unnamed()?;
    }
    Ok(index)
}

struct Loader<'a> {
    disk: &'a Disk,
    /// Data files that documents name.
    names: HashSet<String>,
    /// Whether each document could be read.
    is_complete: bool,
}

impl Loader<'_> {
    fn bucket(&mut self, name: &str) -> io::Result<Bucket> {
        let record: Option<BucketRecord> = self.read(&self.disk.bucket_document(name));
        let mut bucket = Bucket::new(record.map_or_else(|| UNIX_EPOCH.into(), |record| record.created));
        for path in entries(&self.disk.objects(name))? {
            if let Some((key, object)) = self.object(&path) {
                self.names.extend(names(&object));
                bucket.objects.insert(key, Arc::new(object));
            }
        }
        Ok(bucket)
    }

    fn uploads(&mut self, name: &str, bucket: &mut Bucket) -> io::Result<()> {
        for path in entries(&self.disk.uploads(name))? {
            let Some(id) = file_name(&path) else {
                continue;
            };
            match self.upload(&path)? {
                Some(upload) => {
                    let parts = upload.parts.values();
                    self.names.extend(parts.flat_map(|part| names(part)));
                    bucket.uploads.insert((upload.record.key.clone(), id), upload);
                }
                None if self.is_complete => fs::remove_dir_all(path)?,
                None => {}
            }
        }
        Ok(())
    }

    /// None for an upload that was just beginning, or that has become an object.
    fn upload(&mut self, directory: &Path) -> io::Result<Option<Upload>> {
        let document = directory.join(UPLOAD_FILE);
        if !document.exists() {
            return Ok(None);
        }
        let Some(record) = self.read::<UploadRecord>(&document) else {
            return Ok(None);
        };
        let mut parts = BTreeMap::new();
        for path in entries(directory)? {
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse::<i32>().ok());
            if let Some(number) = number
                && let Some((_, part)) = self.object(&path)
            {
                if names(&part).any(|name| self.names.contains(&name)) {
                    return Ok(None);
                }
                parts.insert(number, Arc::new(part));
            }
        }
        Ok(Some(Upload { record: Arc::new(record), parts }))
    }

    fn object(&mut self, path: &Path) -> Option<(String, Object)> {
        self.read::<ObjectRecord>(path)?.load(&self.disk.data())
    }

    fn read<T: DeserializeOwned>(&mut self, path: &Path) -> Option<T> {
        let document = fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        self.is_complete &= document.is_some();
        document
    }

    fn remove_unnamed(&self) -> io::Result<()> {
        let unnamed = |path: &PathBuf| file_name(path).is_none_or(|name| !self.names.contains(&name));
        entries(&self.disk.data())?.into_iter().filter(unnamed).try_for_each(fs::remove_file)
    }
}

fn names(object: &Object) -> impl Iterator<Item = String> {
    object.segments.iter().map(|segment| segment.data.name().to_owned())
}

fn file_name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.to_owned())
}

fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect()
}
