//! Takes over a data directory of the earlier layout, in which a bucket was a directory and a key a path below it.
//!
//! Each object gets its new place before its old one is removed, and nothing is served in between: a kill in the middle loses
//! nothing, and the next start goes on. What has no key in UTF-8 stays where it is, as do unfinished uploads of that layout.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use s3s::crypto::{Checksum, Md5};
use s3s::dto::Timestamp;
use s3s::path::check_bucket_name;
use serde::Deserialize;

use super::conditions::WriteConditions;
use super::data::DataFile;
use super::record::{Attributes, Checksums, Facts, Object, Segment};
use super::store::Store;

/// Headers of an object, in a file beside the buckets.
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

/// What the server knew of an object, in a second file.
#[derive(Default, Deserialize)]
#[serde(default)]
struct EarlierFacts {
    e_tag: Option<String>,
    checksum_crc32: Option<String>,
    checksum_crc32c: Option<String>,
    checksum_crc64nvme: Option<String>,
    checksum_sha1: Option<String>,
    checksum_sha256: Option<String>,
}

/// Takes over every bucket of the earlier layout.
pub(super) fn import(store: &Store, directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if let Some(bucket) = name.to_str().filter(|name| check_bucket_name(name))
            && entry.file_type()?.is_dir()
        {
            import_bucket(store, directory, bucket)?;
        }
    }
    Ok(())
}

fn import_bucket(store: &Store, directory: &Path, bucket: &str) -> io::Result<()> {
    if store.in_bucket(bucket, |_| Ok(())).is_err() {
        store.create_bucket(bucket).map_err(io::Error::other)?;
    }
    let root = directory.join(bucket);
    let mut folders = vec![root.clone()];
    let mut at = 0;
    while let Some(folder) = folders.get(at).cloned() {
        at += 1;
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let kind = path.symlink_metadata()?.file_type();
            if kind.is_dir() {
                folders.push(path);
            } else if let Some(key) = path.strip_prefix(&root).ok().and_then(Path::to_str)
                && kind.is_file()
            {
                import_object(store, directory, (bucket, key), &path)?;
            }
        }
    }
    // The deepest first. One with something left in it stays.
    folders.iter().rev().for_each(|folder| drop(fs::remove_dir(folder)));
    Ok(())
}

fn import_object(
    store: &Store,
    directory: &Path,
    (bucket, key): (&str, &str),
    path: &Path,
) -> io::Result<()> {
    let beside = |kind: &str| {
        let encode = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        directory.join(format!(".bucket-{}.object-{}.{kind}.json", encode(bucket), encode(key)))
    };
    let (attributes_path, facts_path) = (beside("metadata"), beside("internal"));
    let attributes: EarlierAttributes = read(&attributes_path);
    let facts: EarlierFacts = read(&facts_path);
    let metadata = path.metadata()?;
    let etag = match facts.e_tag {
        Some(etag) => etag,
        None => md5(path)?,
    };
    let facts = Facts {
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
        },
        tags: Vec::new(),
        checksums: Checksums {
            crc32: facts.checksum_crc32,
            crc32c: facts.checksum_crc32c,
            crc64nvme: facts.checksum_crc64nvme,
            sha1: facts.checksum_sha1,
            sha256: facts.checksum_sha256,
        },
        is_multipart: false,
    };
    let data = Arc::new(DataFile::link(&store.disk().data(), path)?);
    let object = Object { facts, segments: vec![Segment { data, bytes: metadata.len() }] };
    store.put(bucket, key, object, &WriteConditions::default()).map_err(io::Error::other)?;
    fs::remove_file(path)?;
    for beside in [attributes_path, facts_path] {
        match fs::remove_file(beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// What cannot be read is as if it were not there: the object itself counts.
fn read<T: Default + for<'a> Deserialize<'a>>(path: &Path) -> T {
    fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

fn md5(path: &Path) -> io::Result<String> {
    /// `io::copy` writes into it.
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
    use crate::origin::scratch::Scratch;

    /// The data of a first walk survives an upgrade: bytes, keys, headers; what cannot be taken over is left alone.
    #[test]
    fn a_directory_of_the_earlier_layout_is_taken_over() {
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
            let store = Store::open(directory).unwrap();
            import(&store, directory).unwrap();
            let object = store.object("demo", "folder/ü.txt").unwrap();
            assert_eq!((object.facts.etag.as_str(), object.bytes()), ("tag-2", 5));
            assert_eq!(object.facts.attributes.content_type.as_deref(), Some("text/plain"));
            assert_eq!(object.facts.attributes.metadata["a"], "1");
            assert_eq!(object.facts.checksums.crc32.as_deref(), Some("AAAAAA=="));
            assert_eq!(fs::read(object.segments[0].data.path()).unwrap(), b"bytes");
            let plain = store.object("demo", "plain").unwrap();
            assert_eq!(plain.facts.etag, "d41d8cd98f00b204e9800998ecf8427e");
        }
        let mut left: Vec<_> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".upload-x.json", "NO_BUCKET", "store_v2"]);
    }
}
