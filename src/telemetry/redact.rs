//! Secrets in logged targets: their values are replaced by `redacted` (O2, C4).
//!
//! The value of a parameter is redacted by the parameter's name, in every kind of bucket, because the secrets of an API are unknown. Names
//! are compared as servers read them: percent-decoded, in any case, without `-`, `_`, `.` and blanks (`api_key`, `Api-Key`, `apiKey`), and
//! by each part of `user[password]`. Parameters follow `&`, `;` and `?` in a query and `;` in a path. A value that contains such a
//! parameter itself, as an encoded URL does, is redacted completely. `log.redact` and `jwt.query` add names.

use std::borrow::Cow;
use std::collections::HashSet;

use tidegate_config::Config;
use tidegate_s3::percent::percent_decode;

const REDACTED: &str = "redacted";

/// The built-in names in normalized form.
const SECRET_NAMES: [&str; 55] = [
    "accesskey",
    "accesskeyid",
    "accesstoken",
    "apikey",
    "apitoken",
    "assertion",
    "auth",
    "authorization",
    "authtoken",
    "awsaccesskeyid",
    "bearer",
    "clientassertion",
    "clientsecret",
    "code",
    "codeverifier",
    "credential",
    "credentials",
    "csrftoken",
    "googleaccessid",
    "hmac",
    "idtoken",
    "jsessionid",
    "jwt",
    "key",
    "mac",
    "ocpapimsubscriptionkey",
    "otp",
    "passphrase",
    "passwd",
    "password",
    "phpsessid",
    "pin",
    "privatekey",
    "pwd",
    "refreshtoken",
    "samlresponse",
    "secret",
    "secretkey",
    "session",
    "sessionid",
    "sessiontoken",
    "sid",
    "sig",
    "sign",
    "signature",
    "subscriptionkey",
    "ticket",
    "token",
    "xamzcopysourceserversideencryptioncustomerkey",
    "xamzcredential",
    "xamzs3sessiontoken",
    "xamzsecuritytoken",
    "xamzserversideencryptioncustomerkey",
    "xamzsignature",
    "xapikey",
];

/// The names of parameters to redact.
#[derive(Debug)]
pub(crate) struct Redaction {
    names: HashSet<String>,
}

impl Redaction {
    /// The names of a configuration, and the query parameter of its tokens.
    pub(crate) fn from_config(config: &Config) -> Self {
        let token = config.jwt.as_ref().and_then(|jwt| jwt.query.as_deref());
        Self::new(config.log.redact.iter().map(String::as_str).chain(token))
    }

    /// The built-in names and `more`.
    fn new<'a>(more: impl Iterator<Item = &'a str>) -> Self {
        let more = more.map(|name| normalized_name(name.as_bytes())).filter(|name| !name.is_empty());
        Self { names: SECRET_NAMES.into_iter().map(str::to_owned).chain(more).collect() }
    }

    /// Redacts a query.
    pub(crate) fn redact_query<'a>(&self, query: &'a str) -> Cow<'a, str> {
        self.redact_parameters(query, &['&', ';', '?'])
    }

    /// Redacts the `;` parameters of a path.
    pub(crate) fn redact_path<'a>(&self, path: &'a str) -> Cow<'a, str> {
        if !may_have_path_parameters(path) {
            return Cow::Borrowed(path);
        }
        let redact = |segment: &'a str| {
            let (name, parameters) = segment.split_at(segment.find(';').unwrap_or(segment.len()));
            if self.contains_secret(name, b";", 1) {
                return Cow::Borrowed(REDACTED);
            }
            match self.redact_parameters(parameters, &[';']) {
                Cow::Borrowed(_) => Cow::Borrowed(segment),
                Cow::Owned(redacted) => Cow::Owned(format!("{name}{redacted}")),
            }
        };
        Cow::Owned(path.split('/').map(redact).collect::<Vec<_>>().join("/"))
    }

    /// Redacts values; the separators stay.
    fn redact_parameters<'a>(&self, text: &'a str, separators: &[char]) -> Cow<'a, str> {
        let mut redacted: Option<String> = None;
        let mut from = 0;
        for part in text.split_inclusive(separators) {
            let pair = part.trim_end_matches(separators);
            if let Some(replacement) = self.redact_pair(pair) {
                let written = redacted.get_or_insert_with(|| text[..from].to_owned());
                written.push_str(&replacement);
                written.push_str(&part[pair.len()..]);
            } else if let Some(written) = &mut redacted {
                written.push_str(part);
            }
            from += part.len();
        }
        redacted.map_or(Cow::Borrowed(text), Cow::Owned)
    }

    /// The replacement of a pair; none if it stays.
    fn redact_pair(&self, pair: &str) -> Option<String> {
        match pair.split_once('=') {
            Some((name, value)) => {
                let is_secret = self.is_secret_name(name) || self.contains_secret(value, b"&;?#", 0);
                is_secret.then(|| format!("{name}={REDACTED}"))
            }
            None => self.contains_secret(pair, b"&;?#", 0).then(|| REDACTED.to_owned()),
        }
    }

    /// Whether an encoded text, decoded once or twice, contains a parameter with a secret after its first `skipped` parts.
    fn contains_secret(&self, text: &str, separators: &[u8], skipped: usize) -> bool {
        if !text.contains('%') {
            return false;
        }
        let once = percent_decode(text.as_bytes());
        let twice = percent_decode(&once);
        [once, twice].iter().any(|decoded| {
            let mut pairs = decoded.split(|byte| separators.contains(byte)).skip(skipped);
            pairs.any(|pair| {
                let end = pair.iter().position(|byte| *byte == b'=');
                end.is_some_and(|end| self.is_secret(&normalized_name(&pair[..end])))
            })
        })
    }

    /// Whether the value of a parameter with this name is redacted.
    pub(crate) fn is_secret_name(&self, name: &str) -> bool {
        // Fast path: most names are already normalized, and a target can contain thousands of them.
        if name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
            return self.is_secret(name);
        }
        let decoded = percent_decode(name.as_bytes());
        let mut parts = decoded.split(|byte| matches!(byte, b'[' | b']'));
        self.is_secret(&normalized_name(&decoded)) || parts.any(|part| self.is_secret(&normalized_name(part)))
    }

    fn is_secret(&self, compared: &str) -> bool {
        self.names.contains(compared)
    }
}

/// Whether a path has a `;`, plain or encoded once or twice: a cheap test, because most paths have none.
fn may_have_path_parameters(path: &str) -> bool {
    let encoded =
        || path.as_bytes().windows(2).any(|pair| pair[0] == b'3' && pair[1].eq_ignore_ascii_case(&b'b'));
    path.contains(';') || (path.contains('%') && encoded())
}

/// A name in the form in which names are compared.
fn normalized_name(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    let is_kept =
        |c: &char| !matches!(c, '-' | '_' | '.' | '+' | '[' | ']') && !c.is_whitespace() && !c.is_control();
    text.chars().filter(is_kept).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn query(text: &str) -> String {
        Redaction::new(["jw", "Vendor-Pass"].into_iter()).redact_query(text).into_owned()
    }

    fn path(text: &str) -> String {
        Redaction::new(std::iter::empty()).redact_path(text).into_owned()
    }

    /// O2, C4
    #[test]
    fn values_of_secret_names_are_redacted() {
        for name in [
            "X-Amz-Signature",
            "X-Amz-Credential",
            "x-amz-security-token",
            "AWSAccessKeyId",
            "awsaccesskey%49d",
            "x-amz-server-side-encryption-customer-key",
            "X-Amz-Copy-Source-Server-Side-Encryption-Customer-Key",
            "Signature",
            "sig",
            "key",
            "api_key",
            "apikey",
            "API-Key",
            "password",
            "Secret",
            "client_secret",
            "token",
            "access_token",
            "code",
            "subscription-key",
            "token[]",
            "user[password]",
            "auth[user][token]",
            "%74oken",
            "t%4Fken",
            "api%5Fkey",
            "+token",
            "%20token",
            "jw",
            "vendor_pass",
            "VENDORPASS",
            "X-Amz-Signatur%65",
        ] {
            assert_eq!(query(&format!("a=1&{name}=abc&b")), format!("a=1&{name}=redacted&b"));
            assert_eq!(query(&format!("a=1;{name}=a=bc;b=2")), format!("a=1;{name}=redacted;b=2"));
        }
        assert_eq!(query("next=/x?token=abc&b"), "next=/x?token=redacted&b");
    }

    /// O2, C4
    #[test]
    fn values_with_encoded_secret_parameters_are_redacted() {
        for value in
            ["https%3A%2F%2Fa%2F%3Ftoken%3Dabc", "%2Fa%253Fb%253D1%2526api_key%253Dabc", "a%3Bsig=abc"]
        {
            assert_eq!(query(&format!("next={value}&b=1")), "next=redacted&b=1", "{value}");
        }
        assert_eq!(query("token%3Dabc&b=1"), "redacted&b=1");
    }

    /// O2
    #[test]
    fn other_values_are_logged_unchanged() {
        for unchanged in [
            "",
            "a",
            "a=1&b=2",
            "&&;;",
            "=abc",
            "list-type=2&continuation-token=abc&prefix=key",
            "uploadId=a%2Bb&partNumber=1",
            "next=%2Fa%3Fb%3D1",
            "key-marker=a",
            "tokens=3",
            "%zz=%",
            "keys",
        ] {
            assert!(
                matches!(Redaction::new(std::iter::empty()).redact_query(unchanged), Cow::Borrowed(_)),
                "{unchanged}"
            );
            assert_eq!(query(unchanged), unchanged);
        }
    }

    /// O2, C4: parameters of a path follow `;`
    #[test]
    fn parameters_of_a_path_are_redacted() {
        assert_eq!(path("/api/a;token=abc;x=1/b"), "/api/a;token=redacted;x=1/b");
        assert_eq!(path("/api;jsessionid=abc"), "/api;jsessionid=redacted");
        assert_eq!(path("/api/a%3Btoken=abc/b"), "/api/redacted/b");
        assert_eq!(path("/api/a%253btoken%253dabc"), "/api/redacted");
        for unchanged in ["/b/token=abc", "/b/a;b;c=d", "/b/key%3Dvalue", "/b/a%3Bb", "/b/code=1%20x", "/"] {
            assert_eq!(path(unchanged), unchanged);
        }
    }

    proptest! {
        /// O2: a text without a secret's name stays unchanged, and a marked value is never logged
        #[test]
        fn a_marked_value_is_never_logged(
            pairs in proptest::collection::vec(("[a-zA-Z%_.-]{0,12}", "[a-zA-Z0-9%=/+]{0,12}"), 0..6),
            at in 0_usize..6,
            name in 0..SECRET_NAMES.len(),
            separator in "[&;?]",
        ) {
            let mut texts: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
            texts.insert(at.min(texts.len()), format!("{}=MARKED", SECRET_NAMES[name]));
            let redacted = query(&texts.join(&separator));
            prop_assert!(!redacted.contains("MARKED"), "{}", redacted);
        }
    }
}
