//! The response to a successful form upload, which the form's fields select (A1).
//!
//! `success_action_redirect` redirects the browser to a page, with bucket, key and etag in the query. A value that is not an HTTP URL is
//! ignored, as in S3. `success_action_status` selects 200, 201 with a document, or 204; any other value means 204.

use actix_web::http::Uri;

use crate::s3::error_document::escape;
use crate::s3::form::fields::FormFields;
use crate::s3::percent::percent_encode;

/// The response to a successful upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SuccessAction {
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
pub(crate) struct StoredObject<'a> {
    /// The URL of the object for the client.
    pub(crate) location: &'a str,
    pub(crate) bucket: &'a str,
    pub(crate) key: &'a str,
    /// With quotes.
    pub(crate) etag: &'a str,
}

impl SuccessAction {
    /// The response that the fields select.
    pub(crate) fn from_fields(fields: &FormFields) -> Self {
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

fn is_redirect_url(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else { return false };
    matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
}

impl StoredObject<'_> {
    /// The page's URL with bucket, key and etag added to its query.
    pub(crate) fn redirect_url(&self, page: &str) -> String {
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
    pub(crate) fn to_xml(&self) -> String {
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
        for bad in ["/x", "javascript:alert(1)", "https://", "x y", "https://a\r\nb: c"] {
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
