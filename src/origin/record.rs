//! Metadata of objects, parts and uploads, in memory and as JSON documents on disk.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use s3s::dto::{ETag, Timestamp};
use s3s::{S3Result, s3_error};
use serde::{Deserialize, Serialize};

use super::data::{DataFile, is_data_name};
use super::upload_checksum::UploadChecksum;

/// Headers that a client stores with an object.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Attributes {
    pub(super) cache_control: Option<String>,
    pub(super) content_disposition: Option<String>,
    pub(super) content_encoding: Option<String>,
    pub(super) content_language: Option<String>,
    pub(super) content_type: Option<String>,
    pub(super) expires: Option<Timestamp>,
    pub(super) website_redirect_location: Option<String>,
    pub(super) metadata: BTreeMap<String, String>,
}

/// Maximum bytes of the user's metadata, names and values together: the limit of S3.
const METADATA_BYTES_MAX: usize = 2048;
/// Maximum bytes of the system's metadata, all values together: the limit of S3.
const SYSTEM_METADATA_BYTES_MAX: usize = 2048;
/// Maximum bytes of `x-amz-website-redirect-location`: the limit of S3.
const REDIRECT_BYTES_MAX: usize = 2048;

impl Attributes {
    pub(super) fn checked(self) -> S3Result<Self> {
        let bytes = |value: &Option<String>| value.as_ref().map_or(0, String::len);
        let user_bytes = self.metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
        let system_bytes = [
            &self.cache_control,
            &self.content_disposition,
            &self.content_encoding,
            &self.content_language,
            &self.content_type,
        ]
        .into_iter()
        .map(bytes)
        .sum();
        for (what, bytes, bytes_max) in [
            ("the user's metadata", user_bytes, METADATA_BYTES_MAX),
            ("the system's metadata", system_bytes, SYSTEM_METADATA_BYTES_MAX),
            ("the redirect location", bytes(&self.website_redirect_location), REDIRECT_BYTES_MAX),
        ] {
            if bytes > bytes_max {
                return Err(s3_error!(MetadataTooLarge, "{what} is larger than {bytes_max} bytes"));
            }
        }
        Ok(self)
    }
}

/// The attributes in an operation's input: three operations have the same field names.
macro_rules! attributes {
    ($input:expr) => {
        $crate::origin::record::Attributes {
            cache_control: $input.cache_control.take(),
            content_disposition: $input.content_disposition.take(),
            content_encoding: $crate::origin::record::stored_encoding($input.content_encoding.take()),
            content_language: $input.content_language.take(),
            content_type: $input.content_type.take(),
            expires: $input.expires.take(),
            website_redirect_location: $input.website_redirect_location.take(),
            metadata: $input.metadata.take().into_iter().flatten().collect(),
        }
        .checked()?
    };
}

/// Sets the attributes of an operation's output: two operations have the same field names.
macro_rules! show_attributes {
    ($output:expr, $attributes:expr) => {{
        let attributes = &$attributes;
        $output.cache_control.clone_from(&attributes.cache_control);
        $output.content_disposition.clone_from(&attributes.content_disposition);
        $output.content_encoding.clone_from(&attributes.content_encoding);
        $output.content_language.clone_from(&attributes.content_language);
        let content_type = attributes.content_type.as_deref().unwrap_or("binary/octet-stream");
        $output.content_type = Some(content_type.to_owned());
        $output.expires.clone_from(&attributes.expires);
        $output.website_redirect_location.clone_from(&attributes.website_redirect_location);
        $output.metadata = Some(attributes.metadata.clone().into_iter().collect());
    }};
}

pub(super) use {attributes, show_attributes};

/// The content encoding without `aws-chunked`, the framing of the upload.
pub(super) fn stored_encoding(encoding: Option<String>) -> Option<String> {
    let encoding = encoding?;
    let codings = encoding.split(',').map(str::trim);
    let kept: Vec<_> = codings.filter(|coding| !coding.eq_ignore_ascii_case("aws-chunked")).collect();
    Some(kept.join(",")).filter(|kept| !kept.is_empty())
}

/// Base64-encoded checksums, for each algorithm that the server library reads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Checksums {
    pub(super) crc32: Option<String>,
    pub(super) crc32c: Option<String>,
    pub(super) crc64nvme: Option<String>,
    pub(super) sha1: Option<String>,
    pub(super) sha256: Option<String>,
}

/// Metadata of an object or a part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ObjectInfo {
    /// The ETag without quotes.
    pub(super) etag: String,
    pub(super) modified: Timestamp,
    #[serde(default)]
    pub(super) attributes: Attributes,
    #[serde(default)]
    pub(super) tags: Vec<(String, String)>,
    #[serde(default)]
    pub(super) checksums: Checksums,
    /// Whether it was uploaded in parts. Each part is then a segment.
    #[serde(default)]
    pub(super) is_multipart: bool,
}

/// Consecutive bytes of an object, in one data file.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) data: Arc<DataFile>,
    pub(super) bytes: u64,
}

/// An object, or a part of an upload.
#[derive(Debug, Clone)]
pub(super) struct Object {
    pub(super) info: ObjectInfo,
    pub(super) segments: Vec<Segment>,
}

impl Object {
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    pub(super) fn etag(&self) -> ETag {
        ETag::Strong(self.info.etag.clone())
    }

    pub(super) fn persist(&self) {
        self.segments.iter().for_each(|segment| segment.data.persist());
    }

    pub(super) fn discard(&self) {
        self.segments.iter().for_each(|segment| segment.data.discard());
    }

    pub(super) fn record(&self, key: &str) -> ObjectRecord {
        let segments = self
            .segments
            .iter()
            .map(|segment| SegmentRecord { file: segment.data.name().to_owned(), bytes: segment.bytes });
        ObjectRecord { key: key.to_owned(), info: self.info.clone(), segments: segments.collect() }
    }
}

/// The document of an object on disk.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ObjectRecord {
    pub(super) key: String,
    #[serde(rename = "facts")]
    info: ObjectInfo,
    segments: Vec<SegmentRecord>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SegmentRecord {
    file: String,
    bytes: u64,
}

impl ObjectRecord {
    /// The names of the data files.
    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().map(|segment| segment.file.as_str())
    }

    /// Key and object, if the data is complete.
    pub(super) fn load(self, data_directory: &Path) -> Option<(String, Object)> {
        let load = |SegmentRecord { file, bytes }| {
            let is_whole = is_data_name(&file)
                && data_directory.join(&file).metadata().is_ok_and(|metadata| metadata.len() == bytes);
            is_whole.then(|| Segment { data: Arc::new(DataFile::existing(data_directory, &file)), bytes })
        };
        let segments = self.segments.into_iter().map(load).collect::<Option<Vec<_>>>()?;
        Some((self.key, Object { info: self.info, segments }))
    }
}

/// The document of an upload on disk, without its parts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct UploadRecord {
    pub(super) key: String,
    pub(super) initiated: Timestamp,
    pub(super) attributes: Attributes,
    pub(super) tags: Vec<(String, String)>,
    #[serde(default)]
    pub(super) checksum: UploadChecksum,
}

/// The document of a bucket on disk, without its content.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct BucketRecord {
    pub(super) created: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_framing_of_an_upload_is_not_stored() {
        let stored = |encoding: &str| stored_encoding(Some(encoding.to_owned()));
        assert_eq!(stored("aws-chunked"), None);
        assert_eq!(stored("gzip, aws-chunked").as_deref(), Some("gzip"));
        assert_eq!(stored("gzip").as_deref(), Some("gzip"));
    }
}
