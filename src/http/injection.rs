//! Checks request targets for attack patterns (V3, V4). Targets are never changed (V5).
//!
//! Two patterns are refused in every mode. First, a path that leaves its bucket: an upstream that resolves `..` would
//! reach another bucket with the gateway's credentials, so this is a question of permission. S3 has the same rule:
//! `..` may never outnumber the names before it (Amazon S3 User Guide, "Naming Amazon S3 objects"). Second, an
//! encoded line break in a `response-*` parameter, which becomes a header of the response.
//!
//! The bucket's mode decides on the others: `..` that stays in the bucket, encoded NUL, CR and LF in the path, and
//! four patterns in path or query. All decodings of the target are searched (`s3/src/path_segments.rs`). `block` also
//! refuses the few legal keys that contain one of them, so there are only four. There are no further patterns of SQL
//! or scripts, and none of shell metacharacters, because the gateway runs no shell.

use actix_web::http::Uri;
use memchr::{memchr, memchr3, memmem};
use slog::{Logger, warn};
use tidegate_config::InjectionPatterns;
use tidegate_s3::path_segments::{Segment, find_decoding, may_have_dot_segment, segments};
use tidegate_s3::percent::percent_decode;

use crate::http::request_validation::RequestRejection;
use crate::upstream::bucket::Bucket;
use crate::upstream::record::Record;

/// A pattern that was found in a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InjectionFinding {
    /// The reason in header, log and metric.
    pub(crate) reason: &'static str,
    /// The description of the pattern.
    pub(crate) what: &'static str,
}

const ESCAPES_BUCKET: InjectionFinding =
    InjectionFinding { reason: "path", what: "a `..` that leads out of its bucket" };
const PARENT_SEGMENT: InjectionFinding = InjectionFinding { reason: "path", what: "a `..` segment" };
const CONTROL: InjectionFinding =
    InjectionFinding { reason: "path", what: "an encoded nul, carriage return or line feed" };
const LINE_BREAK: InjectionFinding = InjectionFinding {
    reason: "response_parameter",
    what: "an encoded nul, carriage return or line feed in a response-* parameter",
};

/// The number of times that a server may decode a target.
const DECODINGS: u8 = 2;

/// Refuses the patterns that no mode allows.
pub(crate) fn check(uri: &Uri) -> Result<(), RequestRejection> {
    let path = uri.path().as_bytes();
    let leaves =
        || find_decoding(path, DECODINGS, &|reading| escapes_bucket(reading).then_some(())).is_some();
    if may_have_dot_segment(path) && leaves() {
        return Err(RequestRejection::Suspicious(ESCAPES_BUCKET));
    }
    if uri.query().is_some_and(has_header_injection) {
        Err(RequestRejection::Suspicious(LINE_BREAK))
    } else {
        Ok(())
    }
}

/// Checks the other patterns by the bucket's mode: `block` returns an error, `log` returns the finding.
pub(super) fn check_bucket(
    uri: &Uri,
    mode: InjectionPatterns,
) -> Result<Option<InjectionFinding>, RequestRejection> {
    let found = || {
        find_in_path(uri.path().as_bytes())
            .or_else(|| find_decoding(uri.path_and_query()?.as_str().as_bytes(), DECODINGS, &find_pattern))
    };
    match mode {
        InjectionPatterns::Off => Ok(None),
        InjectionPatterns::Log => Ok(found()),
        InjectionPatterns::Block => {
            found().map_or(Ok(None), |found| Err(RequestRejection::Suspicious(found)))
        }
    }
}

/// Checks a target by the mode of its bucket. In mode `log` a finding is logged and the request goes on.
pub(crate) fn check_and_log(
    log: &Logger,
    bucket: &Bucket,
    uri: &Uri,
    record: &Record,
) -> Result<(), RequestRejection> {
    if let Some(finding) = check_bucket(uri, bucket.config.injection_patterns)? {
        warn!(log, "suspicious request forwarded"; "id" => record.id.to_str().unwrap_or_default(),
            "bucket" => &bucket.name, "holds" => finding.what);
    }
    Ok(())
}

/// A quick check: most paths have no escapes at all.
fn has_escapes(path: &[u8]) -> bool {
    memchr(b'%', path).is_some()
}

/// Whether `..` outnumber the names before them at any point after the bucket's name. Empty segments do not count as
/// names.
fn escapes_bucket(path: &[u8]) -> bool {
    // The segment before the first slash is empty.
    let mut segments = segments(path).skip(1);
    if segments.next().is_some_and(|bucket| matches!(bucket, Segment::Current | Segment::Parent)) {
        return true;
    }
    let mut depth = 0_u32;
    segments.any(|segment| {
        let below = match segment {
            Segment::Parent => depth.checked_sub(1),
            Segment::Empty | Segment::Current => Some(depth),
            Segment::Name => Some(depth.saturating_add(1)),
        };
        depth = below.unwrap_or(0);
        below.is_none()
    })
}

fn find_in_path(path: &[u8]) -> Option<InjectionFinding> {
    let has_control = || percent_decode(path).iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n'));
    if has_escapes(path) && has_control() {
        return Some(CONTROL);
    }
    if !may_have_dot_segment(path) {
        return None;
    }
    let is_parent = |segment| segment == Segment::Parent;
    find_decoding(path, DECODINGS, &|reading| {
        segments(reading).skip(1).any(is_parent).then_some(PARENT_SEGMENT)
    })
}

/// Whether a `response-*` parameter would break the header that the store builds from it. Decoded once, as the store
/// does: a file name may contain a line break that is encoded twice.
fn has_header_injection(query: &str) -> bool {
    let breaks = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        percent_decode(name.as_bytes()).to_ascii_lowercase().starts_with(b"response-")
            && percent_decode(value.as_bytes()).iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n'))
    };
    has_escapes(query.as_bytes()) && query.split('&').any(breaks)
}

/// Finds a pattern in any case. White space is ignored as SQL does, and `+` is a blank in queries.
fn find_pattern(reading: &[u8]) -> Option<InjectionFinding> {
    memchr3(b'\'', b'<', b':', reading)?;
    let lower = reading.to_ascii_lowercase();
    let is_blank = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'+' | 0x0b);
    let dense: Vec<u8> = lower.iter().copied().filter(|byte| !is_blank(byte)).collect();
    let opens_script = memmem::find_iter(&lower, b"<script")
        .any(|at| lower.get(at + 7).is_some_and(|next| matches!(next, b'>' | b'/') || is_blank(next)));
    let what = if memmem::find(&dense, b"';droptable").is_some() {
        "the pattern `'; drop table`"
    } else if memmem::find(&dense, b"'or'1'='1").is_some() {
        "the pattern `' or '1'='1`"
    } else if opens_script {
        "the pattern `<script>`"
    } else if memmem::find(&lower, b"javascript:").is_some() {
        "the pattern `javascript:`"
    } else {
        return None;
    };
    Some(InjectionFinding { reason: "injection", what })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(target: &str) -> Uri {
        target.parse().unwrap()
    }

    fn found(target: &str) -> Option<InjectionFinding> {
        check_bucket(&uri(target), InjectionPatterns::Log).unwrap()
    }

    /// V3, V12
    #[test]
    fn a_path_that_leaves_its_bucket_is_refused_in_every_encoding() {
        for bad in [
            "/b/../c",
            "/b/..",
            "/..",
            "/../b/k",
            "/./b/k",
            "/b/a/../../c",
            "/b//../../c",
            "/b/./../c",
            "/b/%2e%2e/c",
            "/b/.%2E/c",
            "/b/%252e%252e%252fc",
            "/b/..%2fc",
            "/b/..%5cc",
            "/b/..\\c",
            "/b/a\\..\\..\\c",
            "/b%2f..%2fc",
            "/b/..;/c",
            "/b/..;x=1/c",
            "/..;/b/k",
            "/.;/b/k",
            "/b/a/../..;/c",
            "/b/;a/../c",
            "/b/.;/../c",
            "/b/..%3b/c",
            "/b/%c0%ae%c0%ae/c",
            "/b/%25c0%25ae./c",
            "/b/%e0%80%ae./c",
            "/b/..%c0%afc",
            "/b/%u002e./x",
            "/b/%f8%80%80%80%ae./x",
            "/b/..%c1%9cc",
        ] {
            assert_eq!(check(&uri(bad)), Err(RequestRejection::Suspicious(ESCAPES_BUCKET)), "{bad}");
        }
        for inside in [
            "/b/a/../c",
            "/b/a/..",
            "/b/a/c/../../d",
            "/b/a%2f..%2fc",
            "/b/a/..;/c",
            "/b/a;x/../c",
            "/b",
            "/",
            "/b/..name",
            "/b/..%20/x",
            "/b/a;..",
            "/b/%c0%af%c0%af",
        ] {
            assert_eq!(check(&uri(inside)), Ok(()), "{inside}");
        }
    }

    /// V3, V4
    #[test]
    fn the_mode_decides_on_paths_inside_the_bucket() {
        use InjectionPatterns::{Block, Log, Off};
        let cases = [
            ("/b/a/../c", PARENT_SEGMENT),
            ("/b/a/%2E%2e/c", PARENT_SEGMENT),
            ("/b/a/..;x=1/c", PARENT_SEGMENT),
            ("/b/a/%c0%ae%c0%ae/c", PARENT_SEGMENT),
            ("/b/a%00b", CONTROL),
            ("/b/a%0db", CONTROL),
            ("/b/a%0A", CONTROL),
        ];
        for (target, finding) in cases {
            let target = uri(target);
            assert_eq!(check(&target), Ok(()));
            assert_eq!(check_bucket(&target, Block), Err(RequestRejection::Suspicious(finding)), "{target}");
            assert_eq!(check_bucket(&target, Log), Ok(Some(finding)), "{target}");
            assert_eq!(check_bucket(&target, Off), Ok(None), "{target}");
        }
        assert_eq!(check_bucket(&uri("/b/k?x=1"), Block), Ok(None));
    }

    /// V3: a header of the response cannot be forged, and other values may contain line breaks
    #[test]
    fn a_response_parameter_cannot_hold_a_line_break() {
        for bad in [
            "/b/k?response-content-type=a%0d%0aset-cookie:x",
            "/b/k?x=1&response-content-disposition=a%0Ab",
            "/b/k?response%2Dexpires=%0d",
            "/b/k?Response-Expires=%00",
        ] {
            assert_eq!(check(&uri(bad)), Err(RequestRejection::Suspicious(LINE_BREAK)), "{bad}");
        }
        for good in [
            "/b/k?response-content-type=text%2Fplain",
            "/b/k?delimiter=%0A&prefix=%0D",
            "/b/k?x=response-content-type%0A",
            "/b/k?response-content-disposition=filename*=UTF-8''a%250Ab",
        ] {
            assert_eq!(check(&uri(good)), Ok(()), "{good}");
        }
    }

    /// V4
    #[test]
    fn patterns_are_found_in_path_and_query_in_every_case_and_encoding() {
        for bad in [
            "/b/'%3B%20DROP%20TABLE%20users",
            "/b/k?q=%27;drop+table+x",
            "/b/x'%09;%0Bdrop%20%20Table",
            "/b/k?name=%2527%253B%2520drop%2520table",
            "/b/k?id='+OR+'1'='1",
            "/b/'%20or%20'1'%20=%20'1",
            "/b/%27%20oR%20%271%27%3D%271",
            "/b/%3Cscript%3Ealert",
            "/b/k?q=%3CSCRIPT%20src=x",
            "/b/k?q=%253cScript%252f",
            "/b/JavaScript:alert(1)",
            "/b/k?next=javascript%3Ax",
        ] {
            assert!(matches!(found(bad), Some(InjectionFinding { reason: "injection", .. })), "{bad}");
        }
        for good in [
            "/b/it's",
            "/b/x'%20and%20'y",
            "/b/o'or.txt",
            "/b/drop%20table.sql",
            "/b/%3Cscripts%3E",
            "/b/less%3Cmore%3E.txt",
            "/b/java%20script:",
            "/b/javascript/x.js",
            "/b/k?q=1'='1",
            "/b/%3Cscript",
            "/b/%3C/script%3E",
        ] {
            assert_eq!(found(good), None, "{good}");
        }
    }
}
