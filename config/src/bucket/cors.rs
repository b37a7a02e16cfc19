//! Which pages of other origins may use a bucket from a browser (A6).
//!
//! Off until an origin is named, so that any other key without one is a mistake and refused. An origin is compared
//! byte for byte with what browsers send, so what no browser would send is refused here: a path, a slash
//! at the end, capitals, a scheme's own port, `null` (which any sandboxed page may claim to be).
//! Deliberately absent: patterns over origins. `https://*.example.com` trusts whoever gets hold of one forgotten name.

use crate::form::{Choice, Fault, Faults, Flag, Form, list, shown, whole_seconds};
use crate::section::section;
use crate::setting::Raw;
use crate::walk::{Docs, Read as _, Section, Spec, key};

const ANY: &str = "*";
const AGE_SECONDS: u32 = 600;

/// Which pages of other origins may use a bucket, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorsConfig {
    /// origins as browsers send them; `None` is any
    pub allowed_origins: Option<Vec<String>>,
    /// methods that scripts may use
    pub allowed_methods: Vec<&'static str>,
    /// headers that scripts may send, in lower case; `None` is any
    pub allowed_headers: Option<Vec<String>>,
    /// headers that scripts may read
    pub exposed_headers: Vec<String>,
    /// how long a browser may remember a preflight's answer
    pub max_age_seconds: u32,
    /// whether requests may carry the user's own cookies and certificates
    pub allow_credentials: bool,
}

/// An origin, or `*`.
struct Origin;

impl Form for Origin {
    type Value = String;

    fn parse(&self, raw: &Raw) -> Result<String, Faults> {
        let text = raw.text()?.trim();
        let fault = |what: &str| Fault::new(format!("{} {what}", shown(text)));
        if text == ANY {
            return Ok(text.to_owned());
        }
        let Some((scheme, authority)) = text.split_once("://") else {
            return Err(fault("is no origin")
                .hinting("such as https://app.example.com, or \"*\" for any")
                .into());
        };
        let is_lower = |c: char| c.is_ascii_graphic() && !c.is_ascii_uppercase();
        let begins = scheme.starts_with(|c: char| c.is_ascii_lowercase());
        if !begins
            || authority.is_empty()
            || !text.chars().all(is_lower)
            || authority.contains(['/', '?', '#', '@', '*'])
        {
            let hint = "scheme, host and port in lower case, without a slash at the end and without patterns";
            return Err(fault("is not what a browser sends as its origin").hinting(hint).into());
        }
        let own_port = [("http", ":80"), ("https", ":443")].iter().find(|(name, _)| *name == scheme);
        if let Some(port) = own_port.map(|(_, port)| *port).filter(|port| authority.ends_with(port)) {
            let hint = format!("leave {port} out, as browsers do");
            return Err(fault("is not what a browser sends as its origin").hinting(hint).into());
        }
        Ok(text.to_owned())
    }

    fn accepts(&self) -> String {
        "origin, or \"*\"".to_owned()
    }

    fn show(&self, value: &String) -> String {
        shown(value)
    }
}

/// The name of a header in lower case, or `*`.
struct HeaderName;

impl Form for HeaderName {
    type Value = String;

    fn parse(&self, raw: &Raw) -> Result<String, Faults> {
        let text = raw.text()?.trim();
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let is_name = !text.is_empty() && text.bytes().all(is_token);
        if text == ANY || (is_name && !text.contains('*')) {
            return Ok(text.to_ascii_lowercase());
        }
        Err(Fault::new(format!("{} is no header's name", shown(text)))
            .hinting("such as x-amz-date, or \"*\" for any")
            .into())
    }

    fn accepts(&self) -> String {
        "header, or \"*\"".to_owned()
    }

    fn show(&self, value: &String) -> String {
        shown(value)
    }
}

const METHODS: Choice<&'static str> =
    Choice(&[("GET", "GET"), ("HEAD", "HEAD"), ("PUT", "PUT"), ("POST", "POST"), ("DELETE", "DELETE")]);

section! {
    /// The keys as they are written.
    struct Written {
        /// origins whose pages may use the bucket, byte for byte as browsers send them; `"*"` is any
        ///
        /// Once set, the gateway answers preflights itself and puts its own CORS headers in the place of the upstream's. Unset, the
        /// store of an s3 bucket answers preflights by its own rules (`PUT ?cors`), and its CORS headers pass.
        allowed_origins: Vec<String> = key("allowed_origins", list(Origin), Vec::new()).yielding("off");
        /// methods that such pages may use
        allowed_methods: Vec<&'static str> = key("allowed_methods", list(METHODS), vec!["GET", "HEAD"]);
        /// headers that such pages may send; `"*"` is any
        allowed_headers: Vec<String> = key("allowed_headers", list(HeaderName), Vec::new());
        /// headers of the answer that such pages may read, such as `etag`
        exposed_headers: Vec<String> = key("exposed_headers", list(HeaderName), Vec::new());
        /// seconds for which a browser may remember what a preflight allowed
        max_age_seconds: u32 = key("max_age_seconds", whole_seconds(0..=86_400), AGE_SECONDS);
        /// whether requests may carry the user's cookies; not with `"*"`
        allow_credentials: bool = key("allow_credentials", Flag, false);
    }
}

/// The section `cors`, off until an origin is named.
pub(super) struct CorsKeys(pub(super) &'static str);

impl Spec for CorsKeys {
    type Value = Option<CorsConfig>;

    fn take(self, docs: Docs, section: &mut Section<'_>) -> Option<CorsConfig> {
        let is_set = section.origin_within(self.0).is_some();
        let mut child = section.child(self.0);
        child.introduce(docs);
        let written = Written::read(&mut child);
        is_set.then(|| written.resolve(&mut child))
    }
}

impl Written {
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
                let hint = "name the origins whose pages may use the bucket".to_owned();
                section.refuse("allowed_origins", "is empty, which allows nobody", Some(hint));
            }
        } else if any(&allowed_origins) && allowed_origins.len() > 1 {
            section.refuse(
                "allowed_origins",
                "names origins beside \"*\"",
                Some("\"*\" is any already".to_owned()),
            );
        }
        if allow_credentials {
            for (name, values) in
                [("allowed_origins", &allowed_origins), ("exposed_headers", &exposed_headers)]
            {
                if any(values) {
                    let hint = format!("name them, or set {} to false", section.spell("allow_credentials"));
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
    fn cors_is_off_until_an_origin_is_named() {
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

    /// A6: what would allow everybody, or nobody, by mistake stops the start
    #[test]
    fn rules_that_contradict_themselves_are_refused() {
        const NAMED: &str = "allowed_origins = [\"https://a\"]\n";
        for (keys, expected) in [
            (
                "allowed_methods = [\"PUT\"]".to_owned(),
                "allowed_origins: is empty, which allows nobody (not set); name the origins whose pages may use the bucket",
            ),
            (
                "allowed_origins = [\"*\"]\nallow_credentials = true".to_owned(),
                "allowed_origins: cannot be \"*\" together with allow_credentials (from t.toml); name them, or set \
                 buckets.b.cors.allow_credentials to false",
            ),
            (
                format!("{NAMED}exposed_headers = [\"*\"]\nallow_credentials = true"),
                "exposed_headers: cannot be \"*\" together with allow_credentials (from t.toml); name them, or set \
                 buckets.b.cors.allow_credentials to false",
            ),
            (
                "allowed_origins = [\"*\", \"https://a\"]".to_owned(),
                "allowed_origins: names origins beside \"*\" (from t.toml); \"*\" is any already",
            ),
            (
                format!("{NAMED}allowed_methods = [\"PATCH\"]"),
                "allowed_methods: \"PATCH\" is none of GET, HEAD, PUT, POST, DELETE (from t.toml)",
            ),
            (
                format!("{NAMED}allowed_headers = [\"x-amz-*\"]"),
                "allowed_headers: \"x-amz-*\" is no header's name (from t.toml); such as x-amz-date, or \"*\" for any",
            ),
        ] {
            let lines: Vec<_> = cors(&keys).unwrap_err().iter().map(ToString::to_string).collect();
            assert_eq!(lines, [format!("buckets.b.cors.{expected}")], "{keys}");
        }
    }

    /// A6: an origin that no browser sends would never match, and nobody would know why
    #[test]
    fn an_origin_is_what_browsers_send() {
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
