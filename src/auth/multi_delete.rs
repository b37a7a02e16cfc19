//! Several objects deleted by one request: its body lists them, and a policy with prefixes must see every key first.
//!
//! Only then is the body read before it is passed on, up to 1 MiB (a thousand keys of full length); what is looked at is what
//! will travel on, taken out of its `aws-chunked` framing and verified. The reader is narrow on purpose: it takes exactly the
//! elements that S3 documents, without comments, sections or document types, in UTF-8 (`s3/xml.rs`), and refuses whatever else
//! an XML parser upstream might read in another way than this one does.

use bytes::Bytes;
use tidegate_config::{Access, PolicyConfig};

use crate::auth::operation::On;
use crate::auth::{AuthRejection, Caller, Keyring, Operation, policy};
use crate::http::edge::Head;
use crate::s3::xml;

/// The longest list that is read.
pub(crate) const BYTES_MAX: u64 = 1 << 20;

/// Whether the body lists keys that the caller's policy must see; `bytes` is what the head says of its length.
pub(crate) fn screens(
    caller: &Caller,
    operation: &Operation<'_>,
    head: Head<'_>,
    bytes: Option<u64>,
    keyring: &Keyring,
) -> Result<bool, AuthRejection> {
    let tells_keys_apart = caller.policy(keyring).is_some_and(|policy| !policy.prefixes.is_empty());
    if !tells_keys_apart || operation.on != On::Keys {
        return Ok(false);
    }
    xml::check_media_type(head.headers).map_err(AuthRejection::DeleteList)?;
    if bytes.is_some_and(|bytes| bytes <= BYTES_MAX) { Ok(true) } else { Err(TOO_LONG) }
}

/// Looks at the keys that the body lists.
pub(crate) fn screen(caller: &Caller, body: Option<&Bytes>, keyring: &Keyring) -> Result<(), AuthRejection> {
    let policy = caller.policy(keyring).ok_or(AuthRejection::PolicyLacks(Access::Delete))?;
    check(policy, body.ok_or(TOO_LONG)?)
}

const TOO_LONG: AuthRejection = AuthRejection::DeleteList(
    "it must have a content-length of at most 1 MiB to be checked against the policy",
);

fn check(policy: &PolicyConfig, body: &[u8]) -> Result<(), AuthRejection> {
    for key in keys_of(body).map_err(AuthRejection::DeleteList)? {
        if !policy::has_key(policy, key.as_bytes())? {
            return Err(AuthRejection::PolicyLacks(Access::Delete));
        }
    }
    Ok(())
}

/// The keys of the body of a multi-delete.
pub(crate) fn keys_of(body: &[u8]) -> Result<Vec<String>, &'static str> {
    xml::text(body).and_then(keys)
}

/// The keys of a `Delete` document, from behind its declaration.
fn keys(text: &str) -> Result<Vec<String>, &'static str> {
    let mut rest = text;
    let mut open: Vec<&str> = Vec::new();
    let mut keys = Vec::new();
    while let Some(at) = rest.find('<') {
        let (content, tagged) = rest.split_at(at);
        let (tag, after) = tagged[1..].split_once('>').ok_or("a tag does not end")?;
        // White space may precede the end of any tag.
        let tag = tag.trim_end_matches([' ', '\t', '\r', '\n']);
        match open.as_slice() {
            // XML reads a carriage return as a line feed, so the store would read another key.
            ["Delete", "Object", "Key"] if content.contains('\r') => {
                return Err("a key has a carriage return");
            }
            ["Delete", "Object", "Key"] if tag == "/Key" => keys.push(xml::unescape(content)?),
            ["Delete", "Object", _] | ["Delete", "Quiet"] if tag.starts_with('/') => {}
            _ if content.trim().is_empty() => {}
            _ => return Err("there is text where none belongs"),
        }
        if let Some(name) = tag.strip_prefix('/') {
            if open.pop() != Some(name) {
                return Err("its tags do not match");
            }
        } else {
            open_tag(tag, &mut open)?;
        }
        rest = after;
    }
    if !rest.trim().is_empty() || !open.is_empty() {
        return Err("it does not end where it should");
    }
    Ok(keys)
}

fn open_tag<'a>(tag: &'a str, open: &mut Vec<&'a str>) -> Result<(), &'static str> {
    let (name, attributes) = tag.split_once(char::is_whitespace).unwrap_or((tag, ""));
    let (name, empty) = name.strip_suffix('/').map_or((name, false), |name| (name, true));
    let is_known = match open.as_slice() {
        [] => name == "Delete",
        ["Delete"] => matches!(name, "Object" | "Quiet"),
        ["Delete", "Object"] => matches!(name, "Key" | "VersionId" | "ETag" | "LastModifiedTime" | "Size"),
        _ => false,
    };
    let attributes = attributes.trim();
    let plain = attributes.is_empty() || (name == "Delete" && is_namespace(attributes));
    if !is_known || !plain || empty || attributes.ends_with('/') {
        return Err("it has an element that does not belong there");
    }
    open.push(name);
    Ok(())
}

/// Whether the attributes are one namespace. Its value holds no tag: a tag ends at the first `>` here and behind the
/// closing quote elsewhere.
fn is_namespace(attributes: &str) -> bool {
    let Some(quoted) = attributes.strip_prefix("xmlns=") else { return false };
    let inside = |quote: char| quoted.strip_prefix(quote)?.strip_suffix(quote);
    let value = inside('"').or_else(|| inside('\''));
    value.is_some_and(|value| !value.contains(['"', '\'', '&', '<']))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A5: the keys are those that the store will read
    #[test]
    fn the_keys_of_a_list_are_read() {
        let text = "\n<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\n \
                    <Object><Key>public/a&amp;b&#x20;c&#33;</Key><VersionId>7</VersionId></Object>\
                    <Object><Key> x</Key></Object><Quiet>true</Quiet></Delete>\n";
        assert_eq!(keys(text).unwrap(), ["public/a&b c!", " x"]);
        for blank in [" ", "\t", "\r", "\n", " \r\n"] {
            let text = format!("<Delete{blank}><Object><Key{blank}>k</Key{blank}></Object{blank}></Delete>");
            assert_eq!(keys(&text).unwrap(), ["k"], "a key that is not seen is not checked: {text:?}");
        }
    }

    /// A5: what two readers could read in two ways is refused
    #[test]
    fn what_is_not_plainly_a_list_is_refused() {
        for inner in [
            "<Object><Key>a<!-- b --></Key></Object>",
            "<Object><Key><![CDATA[a]]></Key></Object>",
            "<Object><Key>a<Key>b</Key></Key></Object>",
            "<Object><Key x='1'>a</Key></Object>",
            "<Object><Key/></Object>",
            "<Object><Key>a&b;</Key></Object>",
            "<Object><Key>a&#xd800;</Key></Object>",
            "<Object><Key>a&#+33;</Key></Object>",
            "<Object><Key>a&#0;</Key></Object>",
            "<?xml version='1.0'?><Object><Key>a</Key></Object>",
            "<Object>a</Object>",
            "<Object><Key>a</Object></Key>",
            "<Other/>",
            "<s:Object><Key>a</Key></s:Object>",
            "<Object><Key>a&#xffff;</Key></Object>",
            "<Object><Key>a\u{1}b</Key></Object>",
            "<Object><Key>a\rb</Key></Object>",
            "<Object><Key>a\r\nb</Key></Object>",
        ] {
            assert!(keys(&format!("<Delete>{inner}</Delete>")).is_err(), "{inner}");
        }
        for text in ["<!DOCTYPE a><Delete></Delete>", "<Delete>", "x", "<Delete></Delete>x", "<Delete"] {
            assert!(keys(text).is_err(), "{text}");
        }
        for tag in ["xmlns=\"a", "xmlns='a\"", "xmlns=a", "xmlns=\"a\" b=\"", "xmlns=\"a<b\"", "xmlns=\""] {
            let text = format!("<Delete {tag}><Object><Key>a</Key></Object></Delete>");
            assert!(keys(&text).is_err(), "{text}");
        }
    }
}
