//! Rebuilds the index from the records on disk when the store opens, and removes files that a kill left behind.
//!
//! A record is not served if it is damaged, or if one of its data files is missing or has another length. It stays on disk with its data
//! files and has a `StorageFault`. A record that cannot be read could name any data file, so then no data file is removed. Otherwise data
//! files without a record are removed, because a kill left them.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use serde::de::DeserializeOwned;

use super::StorageFault;
use super::data::is_data_name;
use super::disk::{Disk, UPLOAD_FILE};
use super::record::{BucketRecord, Object, ObjectRecord, UploadRecord};
use super::store::{Bucket, Index, Upload};

const RESTORE_RECORD: &str =
    "restore the file from a backup, or delete it, and restart; until then no unused data file is removed";
const RESTORE_DATA: &str =
    "restore the data files that the record names and restart, or write the object again";

/// Loads the index. The faults name the records that were not loaded.
pub(super) fn load(disk: &Disk) -> io::Result<(Index, Vec<StorageFault>)> {
    let mut loader = Loader { disk, names: HashSet::new(), is_complete: true, faults: Vec::new() };
    let mut index = Index::new();
    for path in entries(&disk.buckets())? {
        if let Some(name) = file_name(&path) {
            let bucket = loader.bucket(&name)?;
            index.insert(name, bucket);
        }
    }
    // After the objects, because a kill may leave an upload with parts that are an object already.
    for (name, bucket) in &mut index {
        loader.uploads(name, bucket)?;
    }
    if loader.is_complete {
        loader.remove_unnamed()?;
    }
    Ok((index, loader.faults))
}

struct Loader<'a> {
    disk: &'a Disk,
    /// Data files with a record.
    names: HashSet<String>,
    /// Whether every record could be read.
    is_complete: bool,
    faults: Vec<StorageFault>,
}

impl Loader<'_> {
    fn bucket(&mut self, name: &str) -> io::Result<Bucket> {
        let record: Option<BucketRecord> = self.read(&self.disk.bucket_document(name));
        let mut bucket = Bucket::new(record.map_or_else(|| UNIX_EPOCH.into(), |record| record.created));
        for path in entries(&self.disk.objects(name))? {
            let Some(record) = self.read::<ObjectRecord>(&path) else {
                continue;
            };
            if let Some((key, object)) = self.object(&path, record) {
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
                    bucket.uploads.insert((upload.record.key.clone(), id), upload);
                }
                None if self.is_complete => fs::remove_dir_all(path)?,
                None => {}
            }
        }
        Ok(())
    }

    /// None for an upload without a record yet, one that has become an object, and one that cannot be read.
    fn upload(&mut self, directory: &Path) -> io::Result<Option<Upload>> {
        let files = entries(directory)?;
        if files.is_empty() {
            return Ok(None);
        }
        let Some(record) = self.read::<UploadRecord>(&directory.join(UPLOAD_FILE)) else {
            return Ok(None);
        };
        let mut parts = Vec::new();
        for path in files {
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse::<i32>().ok());
            if let Some(number) = number
                && let Some(part) = self.read::<ObjectRecord>(&path)
            {
                parts.push((number, path, part));
            }
        }
        let has_become_object =
            parts.iter().flat_map(|(_, _, part)| part.files()).any(|file| self.names.contains(file));
        if has_become_object {
            return Ok(None);
        }
        let mut loaded = BTreeMap::new();
        for (number, path, part) in parts {
            if let Some((_, part)) = self.object(&path, part) {
                loaded.insert(number, Arc::new(part));
            }
        }
        Ok(Some(Upload { record: Arc::new(record), parts: loaded }))
    }

    /// Key and object of a record, if its data is complete. The data files of the record stay in both cases.
    fn object(&mut self, path: &Path, record: ObjectRecord) -> Option<(String, Object)> {
        self.names.extend(record.files().map(str::to_owned));
        let loaded = record.load(&self.disk.data());
        if loaded.is_none() {
            let problem = "a data file of the record is missing or has another length".to_owned();
            self.faults.push(StorageFault { path: path.to_owned(), problem, hint: RESTORE_DATA });
        }
        loaded
    }

    fn read<T: DeserializeOwned>(&mut self, path: &Path) -> Option<T> {
        match fs::read(path).and_then(|text| Ok(serde_json::from_slice(&text)?)) {
            Ok(record) => Some(record),
            Err(error) => {
                self.is_complete = false;
                let problem = format!("the record cannot be read: {error}");
                self.faults.push(StorageFault { path: path.to_owned(), problem, hint: RESTORE_RECORD });
                None
            }
        }
    }

    fn remove_unnamed(&self) -> io::Result<()> {
        let is_unnamed = |path: &PathBuf| {
            file_name(path).is_some_and(|name| is_data_name(&name) && !self.names.contains(&name))
        };
        entries(&self.disk.data())?.into_iter().filter(is_unnamed).try_for_each(fs::remove_file)
    }
}

fn file_name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.to_owned())
}

pub(super) fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let read = || -> io::Result<_> { fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect() };
    read().map_err(with_path(directory))
}

/// Adds the path to an error.
pub(super) fn with_path(path: &Path) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
