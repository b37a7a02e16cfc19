//! CORS rules: pages of other origins that may use a bucket from a browser (A6).
//!
//! CORS is off until an origin is set; another key of the section without an origin is rejected. Origins are compared byte for byte
//! with the header of the browser. Origins that no browser sends are rejected: with a path, a slash at the end, upper case or the
//! default port of the scheme, and `null`, which any sandboxed page can send. Patterns are not supported: `https://*.example.com` would
//! trust an attacker who controls one forgotten subdomain.

use crate::schema::{Docs, Read as _, Section, Spec, key};
use crate::section::section;
use crate::setting::Raw;
use crate::value_type::{
    Choice, Flag, ValueError, ValueErrors, ValueType, is_http_token, list, quoted, toml_text, whole_seconds,
};

const ANY: &str = "*";
const AGE_SECONDS: u32 = 600;

/// CORS rules of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorsConfig {
    /// allowed origins; `None` is any
    pub allowed_origins: Option<Vec<String>>,
    /// methods that scripts may use
    pub allowed_methods: Vec<&'static str>,
    /// headers that scripts may send, in lower case; `None` is any
    pub allowed_headers: Option<Vec<String>>,
    /// headers that scripts may read
    pub exposed_headers: Vec<String>,
    /// how long a browser may cache the response of a preflight
    pub max_age_seconds: u32,
    /// whether requests may carry cookies and client certificates
    pub allow_credentials: bool,
}

/// An origin, or `*`.
struct Origin;

impl ValueType for Origin {
    type Value = String;

    fn parse(&self, raw: &Raw) -> Result<String, ValueErrors> {
        let text = raw.text()?.trim();
        let error_of = |what: &str| ValueError::new(format!("{} {what}", quoted(text)));
        if text == ANY {
            return Ok(text.to_owned());
        }
        let Some((scheme, authority)) = text.split_once("://") else {
            return Err(error_of("is not an origin")
                .with_hint("use an origin such as https://app.example.com, or \"*\" for any")
                .into());
        };
        let is_lower = |c: char| c.is_ascii_graphic() && !c.is_ascii_uppercase();
        let begins = scheme.starts_with(|c: char| c.is_ascii_lowercase());
        if !begins
            || authority.is_empty()
            || !text.chars().all(is_lower)
            || authority.contains(['/', '?', '#', '@', '*'])
        {
            let hint =
                "use scheme, host and port in lower case, without a slash at the end and without patterns";
            return Err(error_of("is not an origin that a browser sends").with_hint(hint).into());
        }
        let own_port = [("http", ":80"), ("https", ":443")].iter().find(|(name, _)| *name == scheme);
        if let Some(port) = own_port.map(|(_, port)| *port).filter(|port| authority.ends_with(port)) {
            let hint = format!("remove {port}, as browsers do");
            return Err(error_of("is not an origin that a browser sends").with_hint(hint).into());
        }
        Ok(text.to_owned())
    }

    fn accepts(&self) -> String {
        "origin, or \"*\"".to_owned()
    }

    fn to_toml(&self, value: &String) -> String {
        toml_text(value)
    }
}

/// The name of a header in lower case, or `*`.
struct HeaderName;

impl ValueType for HeaderName {
    type Value = String;

    fn parse(&self, raw: &Raw) -> Result<String, ValueErrors> {
        let text = raw.text()?.trim();
        if text == ANY || (is_http_token(text) && !text.contains('*')) {
            return Ok(text.to_ascii_lowercase());
        }
        Err(ValueError::new(format!("{} is not the name of a header", quoted(text)))
            .with_hint("use a header such as x-amz-date, or \"*\" for any")
            .into())
    }

    fn accepts(&self) -> String {
        "header, or \"*\"".to_owned()
    }

    fn to_toml(&self, value: &String) -> String {
        toml_text(value)
    }
}

const METHODS: Choice<&'static str> =
    Choice(&[("GET", "GET"), ("HEAD", "HEAD"), ("PUT", "PUT"), ("POST", "POST"), ("DELETE", "DELETE")]);

section! {
    /// The keys of the section.
    struct Keys {
        /// origins of pages that may use the bucket, exactly as browsers send them; `"*"` is any
        ///
        /// If it is set, the gateway answers preflights itself and replaces the CORS headers of the upstream. If it is not set, the
        /// store of an s3 bucket answers preflights by its own rules (`PUT ?cors`), and its CORS headers are forwarded.
        allowed_origins: Vec<String> = key("allowed_origins", list(Origin), Vec::new()).default_text("off");
        /// methods that pages of these origins may use
        allowed_methods: Vec<&'static str> = key("allowed_methods", list(METHODS), vec!["GET", "HEAD"]);
        /// request headers that pages of these origins may send; `"*"` is any
        allowed_headers: Vec<String> = key("allowed_headers", list(HeaderName), Vec::new());
        /// response headers that pages of these origins may read, such as `etag`
        exposed_headers: Vec<String> = key("exposed_headers", list(HeaderName), Vec::new());
        /// how long a browser may cache the response of a preflight
        max_age_seconds: u32 = key("max_age_seconds", whole_seconds(0..=86_400), AGE_SECONDS);
        /// allows requests with cookies; not together with `"*"`
        allow_credentials: bool = key("allow_credentials", Flag, false);
    }
}

/// The section `cors`. It is off until an origin is set.
pub(super) struct CorsKeys(pub(super) &'static str);

impl Spec for CorsKeys {
    type Value = Option<CorsConfig>;

    fn read(self, docs: Docs, section: &mut Section<'_>) -> Option<CorsConfig> {
        let is_set = section.is_set_within(self.0);
        let mut child = section.child(self.0);
        child.document(docs);
        let written = Keys::read(&mut child);
        is_set.then(|| written.resolve(&mut child))
    }
}

impl Keys {
    fn resolve(self, section: &mut Section<'_>) -> CorsConfig {
        let Self {
            allowed_origins,
            allowed_methods,
            allowed_headers,
            exposed_headers,
            max_age_seconds,
            allow_credentials,
        } = self;
        let any = |names: &[String]| names.iter().any(|name| name == ANY);
        if allowed_origins.is_empty() {
            if !section.is_refused("allowed_origins") {
                let hint = "list the origins of the pages that may use the bucket".to_owned();
                section.refuse("allowed_origins", "is required: without it no origin is allowed", Some(hint));
            }
        } else if any(&allowed_origins) && allowed_origins.len() > 1 {
            section.refuse(
                "allowed_origins",
                "lists \"*\" and other origins",
                Some("remove the others: \"*\" allows any origin".to_owned()),
            );
        }
        if allow_credentials {
            for (name, values) in
                [("allowed_origins", &allowed_origins), ("exposed_headers", &exposed_headers)]
            {
                if any(values) {
                    let hint =
                        format!("list them, or set {} to false", section.full_key("allow_credentials"));
                    section.refuse(name, "cannot be \"*\" together with allow_credentials", Some(hint));
                }
            }
        }
        CorsConfig {
            allowed_origins: (!any(&allowed_origins)).then_some(allowed_origins),
            allowed_methods,
            allowed_headers: (!any(&allowed_headers)).then_some(allowed_headers),
            exposed_headers,
            max_age_seconds,
            allow_credentials,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{CorsConfig, Problems, Sources, load};

    fn cors(keys: &str) -> Result<Option<CorsConfig>, Problems> {
        let text = format!("[buckets.b]\ns3.endpoints = [\"http://a\"]\n[buckets.b.cors]\n{keys}\n");
        load(Sources::default().text("t.toml", text)).map(|config| config.buckets["b"].cors.clone())
    }

    /// A6
    #[test]
    fn cors_is_off_until_an_origin_is_set() {
        let plain = "[buckets.b]\ns3.endpoints = [\"http://a\"]\n";
        let config = load(Sources::default().text("t.toml", plain)).unwrap();
        assert_eq!(config.buckets["b"].cors, None);
        let rules = cors("allowed_origins = [\"https://app.example.com\", \"http://localhost:3000\"]")
            .unwrap()
            .unwrap();
        assert_eq!(rules.allowed_origins.unwrap(), ["https://app.example.com", "http://localhost:3000"]);
        assert_eq!((rules.allowed_methods, rules.allowed_headers), (vec!["GET", "HEAD"], Some(vec![])));
        assert_eq!((rules.max_age_seconds, rules.allow_credentials), (600, false));
        let any = cors("allowed_origins = [\"*\"]\nallowed_headers = [\"*\"]\nexposed_headers = [\"ETag\"]")
            .unwrap()
            .unwrap();
        assert_eq!((any.allowed_origins, any.allowed_headers), (None, None));
        assert_eq!(any.exposed_headers, ["etag"]);
    }

    /// A6: a rule that allows every origin, or none, by mistake stops the start
    #[test]
    fn rules_that_contradict_themselves_are_refused() {
        const NAMED: &str = "allowed_origins = [\"https://a\"]\n";
        for (keys, expected) in [
            (
                "allowed_methods = [\"PUT\"]".to_owned(),
                "allowed_origins: is required: without it no origin is allowed (not set); list the origins of the \
                 pages that may use the bucket",
            ),
            (
                "allowed_origins = [\"*\"]\nallow_credentials = true".to_owned(),
                "allowed_origins: cannot be \"*\" together with allow_credentials (from t.toml); list them, or set \
                 buckets.b.cors.allow_credentials to false",
            ),
            (
                format!("{NAMED}exposed_headers = [\"*\"]\nallow_credentials = true"),
                "exposed_headers: cannot be \"*\" together with allow_credentials (from t.toml); list them, or set \
                 buckets.b.cors.allow_credentials to false",
            ),
            (
                "allowed_origins = [\"*\", \"https://a\"]".to_owned(),
                "allowed_origins: lists \"*\" and other origins (from t.toml); remove the others: \"*\" allows any origin",
            ),
            (
                format!("{NAMED}allowed_methods = [\"PATCH\"]"),
                "allowed_methods: \"PATCH\" is not one of GET, HEAD, PUT, POST, DELETE (from t.toml)",
            ),
            (
                format!("{NAMED}allowed_headers = [\"x-amz-*\"]"),
                "allowed_headers: \"x-amz-*\" is not the name of a header (from t.toml); use a header such as \
                 x-amz-date, or \"*\" for any",
            ),
        ] {
            let lines: Vec<_> = cors(&keys).unwrap_err().iter().map(ToString::to_string).collect();
            assert_eq!(lines, [format!("buckets.b.cors.{expected}")], "{keys}");
        }
    }

    /// A6: an origin that no browser sends would never match
    #[test]
    fn only_origins_that_browsers_send_are_accepted() {
        for text in [
            "https://a/",
            "https://A",
            "https://a:443",
            "http://a:80",
            "https://*.a",
            "https://u@a",
            "https://",
            "a",
            "null",
            "",
            "://a",
            "https://a b",
        ] {
            let problems = cors(&format!("allowed_origins = [\"{text}\"]")).unwrap_err();
            assert_eq!(problems.iter().count(), 1, "{text}: {problems}");
        }
        assert!(
            cors("allowed_origins = [\"https://a:8443\", \"http://[::1]:3000\", \"chrome-extension://abc\"]")
                .is_ok()
        );
    }
}
