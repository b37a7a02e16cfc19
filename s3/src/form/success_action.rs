//! The response to a successful form upload, which the form's fields select (A1).
//!
//! `success_action_redirect` redirects the browser to a page, with bucket, key and etag in the query. A value that is not an HTTP URL is
//! ignored, as in S3. `success_action_status` selects 200, 201 with a document, or 204; any other value means 204.

use crate::error_document::escape;
use crate::form::fields::FormFields;
use crate::percent::percent_encode;

/// The response to a successful upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SuccessAction {
    /// 200 without a body.
    EmptyOk,
    /// 201 with an XML document.
    Created,
    /// 204.
    NoContent,
    /// 303 to this page.
    Redirect(String),
}

/// An object that a form has stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredObject<'a> {
    /// The URL of the object for the client.
    pub location: &'a str,
    /// Its bucket.
    pub bucket: &'a str,
    /// Its key.
    pub key: &'a str,
    /// With quotes.
    pub etag: &'a str,
}

impl SuccessAction {
    /// The response that the fields select.
    pub fn from_fields(fields: &FormFields) -> Self {
        let redirect = fields.get("success_action_redirect").or_else(|| fields.get("redirect"));
        if let Some(page) = redirect.filter(|page| is_redirect_url(page)) {
            return Self::Redirect(page.to_owned());
        }
        match fields.get("success_action_status") {
            Some("200") => Self::EmptyOk,
            Some("201") => Self::Created,
            _ => Self::NoContent,
        }
    }
}

/// Whether a text is an HTTP URL with a host (RFC 3986). `"` in a path and `` ` `` in a query are accepted, as browsers send them.
fn is_redirect_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let is_http = ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let has_only = |text: &str, excluded: &[u8]| {
        text.bytes().all(|byte| byte.is_ascii_graphic() && !excluded.contains(&byte))
    };
    is_http
        && has_host(authority)
        && has_only(path, b"<>`")
        && has_only(query, b"<>\"")
        && !fragment.contains(char::is_control)
}

/// Whether an authority has a host: a name, or an IP address, which is in brackets if it is IPv6. User and port are optional; a port has
/// digits only (RFC 3986, 3.2).
fn has_host(authority: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!$&'()*+,-.;=_~".contains(&byte);
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let is_host = match host.strip_prefix('[') {
        Some(address) => address.split_once(']').is_some_and(|(address, port)| {
            !address.is_empty()
                && address.bytes().all(|byte| is_plain(byte) || matches!(byte, b':' | b'%'))
                && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
        }),
        None => {
            let (name, port) = host.split_once(':').unwrap_or((host, ""));
            !name.is_empty() && name.bytes().all(is_plain) && is_port(port)
        }
    };
    is_host && user.bytes().all(|byte| is_plain(byte) || matches!(byte, b':' | b'%'))
}

impl StoredObject<'_> {
    /// The page's URL with bucket, key and etag added to its query.
    pub fn redirect_url(&self, page: &str) -> String {
        let (page, fragment) = match page.split_once('#') {
            Some((page, fragment)) => (page, format!("#{fragment}")),
            None => (page, String::new()),
        };
        let part = |text: &str| percent_encode(text.as_bytes(), false);
        let mark = if page.contains('?') { '&' } else { '?' };
        let (bucket, key, etag) = (part(self.bucket), part(self.key), part(self.etag));
        format!("{page}{mark}bucket={bucket}&key={key}&etag={etag}{fragment}")
    }

    /// The document of a 201 response.
    pub fn to_xml(&self) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<PostResponse><Location>{}</Location><Bucket>{}</Bucket>\
             <Key>{}</Key><ETag>{}</ETag></PostResponse>",
            escape(self.location),
            escape(self.bucket),
            escape(self.key),
            escape(self.etag),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(name: &str, value: &str) -> SuccessAction {
        SuccessAction::from_fields(
            &FormFields::from_parts(vec![(name.to_owned(), value.to_owned())], "").unwrap(),
        )
    }

    /// A1
    #[test]
    fn the_fields_select_the_response() {
        assert_eq!(action("success_action_status", "200"), SuccessAction::EmptyOk);
        assert_eq!(action("success_action_status", "201"), SuccessAction::Created);
        assert_eq!(action("success_action_status", "404"), SuccessAction::NoContent);
        assert_eq!(action("other", ""), SuccessAction::NoContent);
        assert_eq!(
            action("redirect", "https://a.example/x?y"),
            SuccessAction::Redirect("https://a.example/x?y".to_owned())
        );
        for page in [
            "http://a",
            "HTTPS://u:p%40@a:1?q#f g",
            "http://[::1]:80/x?`",
            "http://a:/",
            "http://a/\"{|}^\\#",
        ] {
            let redirect = SuccessAction::Redirect(page.to_owned());
            assert_eq!(action("success_action_redirect", page), redirect, "{page}");
        }
        for bad in [
            "/x",
            "javascript:alert(1)",
            "https://",
            "x y",
            "https://a\r\nb: c",
            "https://a/#\r\nb: c",
            "http://:80/",
            "http://u@/",
            "http://a%20b/",
            "http://a:b:c/",
            "http://[::1/",
            "http://[]/",
            "http://[]:80/",
            "http://[::1]80/",
            "http://[::1]:x/",
            "http://a:x/",
            "http://a:8O/",
            "http://a@b@c/",
            "http://a/<x>",
            "http://a/é",
        ] {
            assert_eq!(action("success_action_redirect", bad), SuccessAction::NoContent, "{bad}");
        }
    }

    /// A1, E4: a key is escaped in the page's URL and in the document
    #[test]
    fn the_response_names_the_stored_object() {
        let stored = StoredObject { location: "http://h/b/k%26", bucket: "b", key: "a/k&<>", etag: "\"e\"" };
        let query = "bucket=b&key=a%2Fk%26%3C%3E&etag=%22e%22";
        assert_eq!(stored.redirect_url("http://p/x"), format!("http://p/x?{query}"));
        assert_eq!(stored.redirect_url("http://p/x?y=1#z"), format!("http://p/x?y=1&{query}#z"));
        assert!(stored.to_xml().contains("<Key>a/k&amp;&lt;&gt;</Key><ETag>&quot;e&quot;</ETag>"));
    }
}
