//! How clients may prove who they are.
//!
//! A word that is no method is refused. To ignore it would leave a bucket closed for no visible reason, or worse, open.

use super::Kind;
use crate::form::{Fault, Faults, Form, shown};
use crate::setting::Raw;
use crate::walk::Section;

/// A way for clients to prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMethod {
    /// a signature by a client key (AWS Signature Version 4)
    Sigv4,
    /// the older and weaker signature by a client key (AWS Signature Version 2)
    Sigv2,
    /// a signed token of somebody the section `jwt` believes
    Jwt,
    /// a secret that stands in a header (section `api_keys`)
    ApiKey,
    /// no proof: whoever reaches the listener may do what `anonymous` says
    Anonymous,
}

const METHODS: [(&str, AuthMethod); 5] = [
    ("sigv4", AuthMethod::Sigv4),
    ("sigv2", AuthMethod::Sigv2),
    ("jwt", AuthMethod::Jwt),
    ("api_key", AuthMethod::ApiKey),
    ("anonymous", AuthMethod::Anonymous),
];
const HINT: &str = "sigv4 asks for a client key's signature, sigv2 also accepts the older signature, jwt asks for a token, \
                    api_key for a secret in a header, anonymous lets everybody in";

/// Signatures are for S3. SigV2 comes in addition to SigV4: no client is left with the weaker one alone.
pub(super) fn check_signatures(section: &mut Section<'_>, kind: Kind, auth: &[AuthMethod]) {
    let lists = |method| auth.contains(&method);
    let signatures = [("sigv4", AuthMethod::Sigv4), ("sigv2", AuthMethod::Sigv2)];
    let mut listed = signatures.into_iter().filter(|(_, method)| lists(*method));
    if let Some((word, _)) = listed.next().filter(|_| kind == Kind::Http) {
        let hint = format!("set {} to s3, or list another method", section.spell("kind"));
        section.refuse("auth", format!("{word} is for buckets of kind s3"), Some(hint));
    } else if lists(AuthMethod::Sigv2) && !lists(AuthMethod::Sigv4) {
        let hint = "list sigv4 as well: clients that can sign with SigV4 should".to_owned();
        section.refuse("auth", "lists sigv2 without sigv4", Some(hint));
    }
    if section.is_set("sigv2_max_lifetime") && !lists(AuthMethod::Sigv2) {
        let auth = section.spell("auth");
        let hint = format!("add sigv2 to {auth}, or take this away");
        section.refuse(
            "sigv2_max_lifetime",
            format!("has no effect: {auth} does not list sigv2"),
            Some(hint),
        );
    }
}

pub(super) struct Method;

impl Form for Method {
    type Value = AuthMethod;

    fn parse(&self, raw: &Raw) -> Result<AuthMethod, Faults> {
        let word = raw.scalar()?.trim();
        if let Some((_, method)) = METHODS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)) {
            return Ok(*method);
        }
        let fault = Fault::new(format!("{} is no authentication method", shown(word)));
        Err(fault.hinting(HINT).into())
    }

    fn accepts(&self) -> String {
        METHODS.map(|(name, _)| name).join(", ")
    }

    fn show(&self, value: &AuthMethod) -> String {
        let name = METHODS.iter().find(|(_, method)| method == value).map_or("", |(name, _)| name);
        format!("\"{name}\"")
    }
}
