//! What the store cannot hold, said as the client's error before the store sees it.
//!
//! It keeps every key as a file of that name and answers 500 whenever the file system disagrees. The gateway
//! retries a 500 and counts it against the bucket's breaker, so one client's odd key (or a tool that looks whether
//! a "folder" exists) would close the bucket to all. Here such requests become 4xx, or are put right where S3
//! would have served them.
//!
//! Deliberately not mended: `a//b` and `a/b` are one file. Every reader and writer sees the same one, and the
//! gateway has sent both names on byte for byte.
use std::fs;
use std::path::{Path, PathBuf};

use s3s::access::S3Access;
use s3s::dto::{
    CopyObjectInput, CopySource, CreateMultipartUploadInput, DeleteBucketInput, DeleteObjectInput,
    DeleteObjectsInput, GetObjectInput, HeadObjectInput, ListObjectsInput, ListObjectsV2Input,
    PutObjectInput, Range, UploadPartCopyInput,
};
use s3s::{S3Request, S3Result, s3_error};

// The store writes sidecar files named after bucket and key in base64 beside these fixed parts:
// ".bucket-", ".object-", ".metadata.json"; while a multipart upload runs also ".upload-" with a UUID.
const SIDECAR_BYTES: usize = 8 + 8 + 14;
const UPLOAD_SIDECAR_BYTES: usize = SIDECAR_BYTES + 44;
const FILE_NAME_BYTES_MAX: usize = 255;

pub(super) struct FileKeys {
    root: PathBuf,
}

impl FileKeys {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    fn path(&self, bucket: &str, key: &str) -> PathBuf {
        // Without its leading slash: joined with it, the key alone would be the path.
        self.root.join(bucket).join(key.trim_start_matches('/'))
    }

    fn check_readable(&self, bucket: &str, key: &str) -> S3Result<()> {
        if key.starts_with('/') || key.ends_with('/') || self.path(bucket, key).is_dir() {
            return Err(s3_error!(NoSuchKey, "the specified key does not exist"));
        }
        Ok(())
    }

    fn check_source(&self, source: &CopySource) -> S3Result<()> {
        match source {
            CopySource::Bucket { bucket, key, .. } => self.check_readable(bucket, key),
            CopySource::AccessPoint { .. } | CopySource::Outpost { .. } => Ok(()),
        }
    }

    fn check_writable(&self, bucket: &str, key: &str, sidecar_bytes: usize) -> S3Result<()> {
        if sidecar_bytes + base64_bytes(bucket) + base64_bytes(key) > FILE_NAME_BYTES_MAX {
            return Err(s3_error!(KeyTooLongError, "the embedded origin's keys are shorter than this"));
        }
        if key.starts_with('/') || key.split('/').any(|segment| segment == "." || segment == "..") {
            return Err(s3_error!(InvalidRequest, "the embedded origin cannot hold a key of this form"));
        }
        if self.is_other_kind(bucket, key) {
            return Err(s3_error!(
                InvalidRequest,
                "the embedded origin keeps keys as files: a key cannot be a folder too"
            ));
        }
        Ok(())
    }

    /// Whether the key, or a part of it, exists as a file where a folder is needed, or the other way round.
    fn is_other_kind(&self, bucket: &str, key: &str) -> bool {
        let is_file = |prefix: &str| self.path(bucket, prefix).is_file();
        if key.match_indices('/').any(|(end, _)| is_file(&key[..end])) {
            return true;
        }
        let path = self.path(bucket, key);
        // Deletes leave empty folders behind; those give way, and `remove_dir` takes no other.
        !key.ends_with('/') && path.is_dir() && fs::remove_dir(&path).is_err()
    }

    /// A folder is no object, and deleting what does not exist succeeds: with the slash, the store does that.
    fn name_folder(&self, bucket: &str, key: &mut String) {
        if !key.ends_with('/') && self.path(bucket, key).is_dir() {
            key.push('/');
        }
    }

    fn check_deletable(&self, bucket: &str, key: &str) -> S3Result<()> {
        if key.starts_with('/') || (key.ends_with('/') && self.is_other_kind(bucket, key)) {
            return Err(s3_error!(NoSuchKey, "the specified key does not exist"));
        }
        Ok(())
    }

    fn clip_suffix(&self, bucket: &str, key: &str, range: &mut Option<Range>) {
        let Some(Range::Suffix { length }) = *range else {
            return;
        };
        let is_whole = fs::metadata(self.path(bucket, key)).is_ok_and(|file| file.len() <= length);
        if is_whole {
            *range = Some(Range::Int { first: 0, last: None });
        }
    }
}

fn base64_bytes(text: &str) -> usize {
    (text.len() * 4).div_ceil(3)
}

// The default `check` stays: it refuses every request without a valid signature.
#[async_trait::async_trait]
impl S3Access for FileKeys {
    async fn get_object(&self, request: &mut S3Request<GetObjectInput>) -> S3Result<()> {
        let input = &mut request.input;
        self.check_readable(&input.bucket, &input.key)?;
        self.clip_suffix(&input.bucket, &input.key, &mut input.range);
        Ok(())
    }

    async fn head_object(&self, request: &mut S3Request<HeadObjectInput>) -> S3Result<()> {
        self.check_readable(&request.input.bucket, &request.input.key)
    }

    async fn put_object(&self, request: &mut S3Request<PutObjectInput>) -> S3Result<()> {
        self.check_writable(&request.input.bucket, &request.input.key, SIDECAR_BYTES)
    }

    async fn create_multipart_upload(
        &self,
        request: &mut S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<()> {
        self.check_writable(&request.input.bucket, &request.input.key, UPLOAD_SIDECAR_BYTES)
    }

    async fn copy_object(&self, request: &mut S3Request<CopyObjectInput>) -> S3Result<()> {
        self.check_source(&request.input.copy_source)?;
        self.check_writable(&request.input.bucket, &request.input.key, SIDECAR_BYTES)
    }

    async fn upload_part_copy(&self, request: &mut S3Request<UploadPartCopyInput>) -> S3Result<()> {
        self.check_source(&request.input.copy_source)
    }

    async fn delete_object(&self, request: &mut S3Request<DeleteObjectInput>) -> S3Result<()> {
        let input = &mut request.input;
        self.check_deletable(&input.bucket, &input.key)?;
        self.name_folder(&input.bucket, &mut input.key);
        Ok(())
    }

    async fn delete_objects(&self, request: &mut S3Request<DeleteObjectsInput>) -> S3Result<()> {
        let input = &mut request.input;
        for object in &mut input.delete.objects {
            self.check_deletable(&input.bucket, &object.key)?;
            self.name_folder(&input.bucket, &mut object.key);
        }
        Ok(())
    }

    /// The store would delete a bucket with all that is in it.
    async fn delete_bucket(&self, request: &mut S3Request<DeleteBucketInput>) -> S3Result<()> {
        let path = self.path(&request.input.bucket, "");
        if fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(s3_error!(BucketNotEmpty, "the bucket is not empty"));
        }
        Ok(())
    }

    /// The store promises URL-encoded names where they are asked for and sends them plain, so clients decode
    /// `+` and `%41` wrongly. Not asked, it promises nothing.
    async fn list_objects(&self, request: &mut S3Request<ListObjectsInput>) -> S3Result<()> {
        request.input.encoding_type = None;
        Ok(())
    }

    async fn list_objects_v2(&self, request: &mut S3Request<ListObjectsV2Input>) -> S3Result<()> {
        request.input.encoding_type = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::scratch::Scratch;

    fn code(result: S3Result<()>) -> String {
        result.map_or_else(|error| error.code().as_str().to_owned(), |()| "ok".to_owned())
    }

    fn keys() -> (Scratch, FileKeys) {
        let scratch = Scratch::new();
        fs::create_dir_all(scratch.path().join("demo/folder/empty")).unwrap();
        fs::write(scratch.path().join("demo/folder/file"), "12345").unwrap();
        let keys = FileKeys::new(scratch.path());
        (scratch, keys)
    }

    /// B3, R1: what a client asks for and the store cannot have is 404, never a 500 that counts and is retried.
    #[test]
    fn a_folder_is_no_object() {
        let (_scratch, keys) = keys();
        for (key, expected) in [
            ("folder/file", "ok"),
            ("not/there", "ok"),
            ("folder", "NoSuchKey"),
            ("folder/", "NoSuchKey"),
            ("folder/file/", "NoSuchKey"),
            ("/folder/file", "NoSuchKey"),
        ] {
            assert_eq!(code(keys.check_readable("demo", key)), expected, "{key}");
        }
    }

    #[test]
    fn a_key_the_file_system_cannot_hold_is_refused_before_its_body() {
        let (_scratch, keys) = keys();
        let (longest, too_long) = ("k".repeat(164), "k".repeat(165));
        for (key, expected) in [
            ("new", "ok"),
            ("folder/file", "ok"),
            ("folder/new/", "ok"),
            ("..name", "ok"),
            (longest.as_str(), "ok"),
            (too_long.as_str(), "KeyTooLongError"),
            ("folder", "InvalidRequest"),
            ("folder/file/", "InvalidRequest"),
            ("folder/file/below", "InvalidRequest"),
            ("/leading", "InvalidRequest"),
            ("up/../side", "InvalidRequest"),
            ("./here", "InvalidRequest"),
        ] {
            assert_eq!(code(keys.check_writable("demo", key, SIDECAR_BYTES)), expected, "{key}");
        }
    }

    #[test]
    fn an_empty_folder_gives_way_to_a_key() {
        let (scratch, keys) = keys();
        assert_eq!(code(keys.check_writable("demo", "folder/empty", SIDECAR_BYTES)), "ok");
        assert!(!scratch.path().join("demo/folder/empty").exists());
    }

    #[test]
    fn a_suffix_longer_than_the_object_is_all_of_it() {
        let (_scratch, keys) = keys();
        for (length, is_whole) in [(4, false), (5, true), (6, true)] {
            let mut range = Some(Range::Suffix { length });
            keys.clip_suffix("demo", "folder/file", &mut range);
            assert_eq!(matches!(range, Some(Range::Int { first: 0, last: None })), is_whole, "{length}");
        }
    }
}
