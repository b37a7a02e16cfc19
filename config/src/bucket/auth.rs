//! Authentication methods of a bucket.
//!
//! An unknown method is rejected. If it were ignored, a bucket would be closed without a visible reason, or open.

use super::Kind;
use crate::schema::Section;
use crate::setting::Raw;
use crate::value_type::{ValueError, ValueErrors, ValueType, quoted};

/// An authentication method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMethod {
    /// a signature by a client key (AWS Signature Version 4)
    Sigv4,
    /// the older and weaker signature by a client key (AWS Signature Version 2)
    Sigv2,
    /// a signed token of an issuer of the section `jwt`
    Jwt,
    /// a secret in a header (section `api_keys`)
    ApiKey,
    /// no authentication: every client may use the operations of the key `anonymous`
    Anonymous,
}

const METHODS: [(&str, AuthMethod); 5] = [
    ("sigv4", AuthMethod::Sigv4),
    ("sigv2", AuthMethod::Sigv2),
    ("jwt", AuthMethod::Jwt),
    ("api_key", AuthMethod::ApiKey),
    ("anonymous", AuthMethod::Anonymous),
];
const HINT: &str = "use sigv4 (signature of a client key), sigv2 (also the older signature), jwt (token), api_key (secret in a \
                    header) or anonymous (no authentication)";

/// Rejects signatures for http buckets, and SigV2 without SigV4: a client must always be able to use the stronger signature.
pub(super) fn check_signatures(section: &mut Section<'_>, kind: Kind, auth: &[AuthMethod]) {
    let lists = |method| auth.contains(&method);
    let signatures = [("sigv4", AuthMethod::Sigv4), ("sigv2", AuthMethod::Sigv2)];
    let mut listed = signatures.into_iter().filter(|(_, method)| lists(*method));
    if let Some((word, _)) = listed.next().filter(|_| kind == Kind::Http) {
        let hint = format!("set {} to s3, or use another method", section.full_key("kind"));
        section.refuse("auth", format!("{word} is only for buckets of kind s3"), Some(hint));
    } else if lists(AuthMethod::Sigv2) && !lists(AuthMethod::Sigv4) {
        let hint = "add sigv4, so that clients can use the stronger signature".to_owned();
        section.refuse("auth", "lists sigv2 without sigv4", Some(hint));
    }
    if section.is_set("sigv2_max_lifetime") && !lists(AuthMethod::Sigv2) {
        let auth = section.full_key("auth");
        let hint = format!("add sigv2 to {auth}, or remove this key");
        section.refuse(
            "sigv2_max_lifetime",
            format!("has no effect: {auth} does not list sigv2"),
            Some(hint),
        );
    }
}

pub(super) struct Method;

impl ValueType for Method {
    type Value = AuthMethod;

    fn parse(&self, raw: &Raw) -> Result<AuthMethod, ValueErrors> {
        let word = raw.scalar()?.trim();
        if let Some((_, method)) = METHODS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)) {
            return Ok(*method);
        }
        let error = ValueError::new(format!("{} is not an authentication method", quoted(word)));
        Err(error.with_hint(HINT).into())
    }

    fn accepts(&self) -> String {
        METHODS.map(|(name, _)| name).join(", ")
    }

    fn to_toml(&self, value: &AuthMethod) -> String {
        let name = METHODS.iter().find(|(_, method)| method == value).map_or("", |(name, _)| name);
        format!("\"{name}\"")
    }
}
