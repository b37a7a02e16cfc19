//! The fields of a form, and their conversion to headers of the upload (A1).
//!
//! Names are compared in lower case, and each may occur once: with two values the policy could be checked against one, and the upload could
//! use the other. An S3 field is converted to its header or rejected. Headers that would make the upload another operation (a copy, another
//! framing) have no field, so other fields with names like S3's headers are rejected too.

use std::borrow::Cow;

use crate::error_document::shortened;
use crate::form::{FormRejection, tagging};
use crate::headers::{is_name, is_value};

/// Fields that are converted to headers with the same name.
const HEADERS: [&str; 6] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
];

/// Prefixes of fields that are converted to headers with the same name.
const HEADER_PREFIXES: [&str; 7] = [
    "x-amz-meta-",
    "x-amz-storage-class",
    "x-amz-server-side-encryption",
    "x-amz-website-redirect-location",
    "x-amz-object-lock-",
    "x-amz-checksum-",
    "x-amz-sdk-checksum-algorithm",
];

/// Fields of the signature, and the policy that it covers.
const AUTH_FIELDS: [&str; 6] = [
    "policy",
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-signature",
    "x-amz-security-token",
];

/// The header for the field `tagging`.
const TAGGING: &str = "x-amz-tagging";
/// Fields of the signature that only SigV4 has.
const SIGV4_FIELDS: [&str; 4] = ["x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature"];

/// Name and value of a header.
pub type FieldHeader<'a> = (&'a str, Cow<'a, str>);

/// The fields before the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormFields(Vec<(String, String)>);

impl FormFields {
    /// Reads the fields of a form, and replaces `${filename}` by the name of the file.
    pub fn from_parts(sent: Vec<(String, String)>, file_name: &str) -> Result<Self, FormRejection> {
        // Some browsers send the whole path of the file.
        let file_name = file_name.rsplit(['/', '\\']).next().unwrap_or_default();
        let mut fields: Vec<(String, String)> = Vec::with_capacity(sent.len());
        for (name, value) in sent {
            let name = name.to_ascii_lowercase();
            if fields.iter().any(|(known, _)| *known == name) {
                return Err(FormRejection::InvalidField { name, what: "is repeated" });
            }
            let value =
                if value.contains("${filename}") { value.replace("${filename}", file_name) } else { value };
            fields.push((name, value));
        }
        Ok(Self(fields))
    }

    /// A field's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The value of a required field.
    pub fn require(&self, name: &'static str) -> Result<&str, FormRejection> {
        self.get(name).ok_or(FormRejection::MissingField(name))
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Whether the form has a field of a signature of either version.
    pub fn is_auth_presented(&self) -> bool {
        self.names().any(|name| AUTH_FIELDS.contains(&name) && name != "policy" || is_sigv2_field(name))
    }

    /// Whether the form has a field of a SigV2 signature.
    pub fn is_sigv2(&self) -> bool {
        self.names().any(is_sigv2_field)
    }

    /// Whether the form has a field of a SigV4 signature.
    pub fn is_sigv4(&self) -> bool {
        self.names().any(|name| SIGV4_FIELDS.contains(&name))
    }

    /// The object's key.
    pub fn key(&self) -> Result<&str, FormRejection> {
        let key = self.require("key")?;
        let fault = |what| Err(FormRejection::InvalidField { name: "key".to_owned(), what });
        if key.is_empty() {
            return fault("must have a length greater than 0");
        }
        if key.contains('\0') { fault("has a null character") } else { Ok(key) }
    }

    /// The headers of the upload. Their names and values are valid.
    pub fn headers(&self) -> Result<Vec<FieldHeader<'_>>, FormRejection> {
        let mut headers = Vec::new();
        for (name, value) in &self.0 {
            let header = match name.as_str() {
                "acl" => "x-amz-acl",
                "tagging" => {
                    headers.extend(tagging_header(value)?);
                    continue;
                }
                name if HEADERS.contains(&name) => name,
                name if HEADER_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) => name,
                name if AUTH_FIELDS.contains(&name) => continue,
                name if name.starts_with("x-amz-") => {
                    return Err(FormRejection::UnsupportedField(shortened(name)));
                }
                _ => continue,
            };
            let fault = |what| FormRejection::InvalidField { name: shortened(name), what };
            if !is_name(header) {
                return Err(fault("has a name that is not a valid header name"));
            }
            if !is_value(value) {
                return Err(fault("has a value that is not a valid header value"));
            }
            headers.push((header, Cow::Borrowed(value.as_str())));
        }
        Ok(headers)
    }
}

/// Converts a tagging document to its header; none if it has no tags.
fn tagging_header(document: &str) -> Result<Option<FieldHeader<'_>>, FormRejection> {
    let value = tagging::header_value(document).map_err(FormRejection::InvalidTagging)?;
    if value.is_empty() {
        return Ok(None);
    }
    if !is_value(&value) {
        return Err(FormRejection::InvalidTagging("its tags are not a valid header value"));
    }
    Ok(Some((TAGGING, Cow::Owned(value))))
}

fn is_sigv2_field(name: &str) -> bool {
    matches!(name, "awsaccesskeyid" | "signature")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> Result<FormFields, FormRejection> {
        let sent = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        FormFields::from_parts(sent, "C:\\photos\\a b.jpg")
    }

    /// A1
    #[test]
    fn the_file_name_without_its_path_replaces_the_variable() {
        let fields = fields(&[("Key", "user/${filename}"), ("x-amz-meta-name", "${filename}")]).unwrap();
        assert_eq!(fields.key(), Ok("user/a b.jpg"));
        assert_eq!(fields.get("x-amz-meta-name"), Some("a b.jpg"));
        let nameless =
            FormFields::from_parts(vec![("key".to_owned(), "u/${filename}".to_owned())], "").unwrap();
        assert_eq!(nameless.key(), Ok("u/"));
    }

    /// A1, V7: no field becomes a header that makes the upload another operation
    #[test]
    fn fields_become_headers_or_are_rejected() {
        let headers = |pairs: &[(&str, &str)]| {
            let fields = fields(pairs).unwrap();
            let headers = fields.headers()?;
            let lines = headers.iter().map(|(name, value)| format!("{name}: {value}"));
            Ok::<_, FormRejection>(lines.collect::<Vec<_>>())
        };
        let sent = [
            ("key", "k"),
            ("acl", "private"),
            ("Content-Type", "image/png"),
            ("x-amz-meta-a", "b"),
            ("X-Amz-Signature", "s"),
            ("submit", "Upload"),
            ("x-ignore-a", "b"),
        ];
        assert_eq!(
            headers(&sent).unwrap(),
            ["x-amz-acl: private", "content-type: image/png", "x-amz-meta-a: b"]
        );
        let tags = "<Tagging><TagSet><Tag><Key>a</Key><Value>b c</Value></Tag></TagSet></Tagging>";
        assert_eq!(headers(&[("Tagging", tags)]).unwrap(), ["x-amz-tagging: a=b%20c"]);
        assert_eq!(headers(&[("tagging", "<Tagging><TagSet/></Tagging>")]).unwrap(), [""; 0]);
        assert!(matches!(headers(&[("tagging", "a=b")]), Err(FormRejection::InvalidTagging(_))));
        for name in
            ["x-amz-copy-source", "x-amz-content-sha256", "x-amz-decoded-content-length", "x-amz-tagging"]
        {
            assert_eq!(headers(&[(name, "v")]), Err(FormRejection::UnsupportedField(name.to_owned())));
        }
        for (name, value) in [("x-amz-meta-a", "b\r\nhost: c"), ("x-amz-meta-a b", "c")] {
            assert!(matches!(headers(&[(name, value)]), Err(FormRejection::InvalidField { .. })), "{name}");
        }
    }

    /// A1: with two values the policy could be checked against one, and the upload use the other
    #[test]
    fn a_repeated_field_is_rejected() {
        assert!(matches!(fields(&[("key", "a"), ("Key", "b")]), Err(FormRejection::InvalidField { .. })));
        assert!(fields(&[("key", "")]).unwrap().key().is_err());
        assert_eq!(fields(&[]).unwrap().key(), Err(FormRejection::MissingField("key")));
    }
}
