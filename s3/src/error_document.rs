//! The gateway's error documents in S3's format (E1).

/// An error document.
pub struct ErrorDocument<'a> {
    /// S3's error code.
    pub code: &'a str,
    /// The message for the client.
    pub message: &'a str,
    /// The path of the request.
    pub resource: &'a str,
    /// The ID of the request.
    pub request_id: &'a str,
    /// Additional elements of this code.
    pub details: &'a [(&'static str, String)],
    /// The region of the bucket, if the error is about the region.
    pub region: Option<&'a str>,
}

impl ErrorDocument<'_> {
    /// The document.
    pub fn to_xml(&self) -> String {
        let element = |name: &str, text: &str| format!("<{name}>{}</{name}>", escape_lines(text));
        let details: String = self.details.iter().map(|(name, text)| element(name, text)).collect();
        let region = self.region.map(|region| element("Region", region)).unwrap_or_default();
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{}</Code><Message>{}</Message>{region}{details}<Resource>{}</Resource>\
             <RequestId>{}</RequestId><HostId>tidegate</HostId></Error>",
            escape(self.code),
            escape(self.message),
            escape(self.resource),
            escape(self.request_id),
        )
    }
}

/// Messages repeat at most this many characters of a client's name.
const NAME_CHARS_MAX: usize = 64;

/// A client's name, truncated for a message.
pub fn shortened(name: &str) -> String {
    name.chars().take(NAME_CHARS_MAX).collect()
}

/// Escapes a text and keeps its line feeds.
fn escape_lines(text: &str) -> String {
    text.split('\n').map(escape).collect::<Vec<_>>().join("\n")
}

/// Escapes a text for an element.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // XML 1.0 cannot represent control characters and these two characters, not even escaped.
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E1, E4
    #[test]
    fn all_texts_are_escaped() {
        let document = ErrorDocument {
            code: "X",
            message: "a<b>&\u{1}\u{ffff}",
            resource: "/b/\"k",
            request_id: "1",
            details: &[("CanonicalRequest", "GET\n<b>\t".to_owned())],
            region: Some("a&b"),
        };
        assert!(document.to_xml().contains(
            "<Message>a&lt;b&gt;&amp;\u{fffd}\u{fffd}</Message><Region>a&amp;b</Region>\
             <CanonicalRequest>GET\n&lt;b&gt;\u{fffd}</CanonicalRequest><Resource>/b/&quot;k</Resource>"
        ));
    }
}
