//! Error documents of the gateway's own, in the format of S3 (E1).

/// An error as S3 clients expect it.
pub(crate) struct ErrorDocument<'a> {
    pub(crate) code: &'a str,
    pub(crate) message: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) request_id: &'a str,
    /// Elements that this code has beyond the common ones.
    pub(crate) details: &'a [(&'static str, String)],
}

impl ErrorDocument<'_> {
    pub(crate) fn to_xml(&self) -> String {
        let details: String =
            self.details.iter().map(|(name, text)| format!("<{name}>{}</{name}>", escape(text))).collect();
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{}</Code><Message>{}</Message>{details}<Resource>{}</Resource>\
             <RequestId>{}</RequestId><HostId>tidegate</HostId></Error>",
            escape(self.code),
            escape(self.message),
            escape(self.resource),
            escape(self.request_id),
        )
    }
}

/// A text as an element can hold it.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // XML 1.0 has no form for control characters and these two at all.
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
    fn nothing_a_client_sends_can_break_out_of_the_document() {
        let document = ErrorDocument {
            code: "X",
            message: "a<b>&\u{1}\u{ffff}",
            resource: "/b/\"k",
            request_id: "1",
            details: &[],
        };
        assert!(
            document.to_xml().contains(
                "<Message>a&lt;b&gt;&amp;\u{fffd}\u{fffd}</Message><Resource>/b/&quot;k</Resource>"
            )
        );
    }
}
