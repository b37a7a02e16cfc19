//! How clients may prove who they are.
//!
//! A word that is no method is refused. To ignore it would leave a bucket closed for no visible reason, or worse, open.

use crate::form::{Fault, Faults, Form, shown};
use crate::setting::Raw;

/// A way for clients to prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMethod {
    /// a signature by a client key (AWS Signature Version 4)
    Sigv4,
    /// a signed token of somebody the section `jwt` believes
    Jwt,
    /// a secret that stands in a header (section `api_keys`)
    ApiKey,
    /// no proof: whoever reaches the listener may do what `anonymous` says
    Anonymous,
}

const METHODS: [(&str, AuthMethod); 4] = [
    ("sigv4", AuthMethod::Sigv4),
    ("jwt", AuthMethod::Jwt),
    ("api_key", AuthMethod::ApiKey),
    ("anonymous", AuthMethod::Anonymous),
];
const HINT: &str = "sigv4 asks for a client key's signature, jwt for a token, api_key for a secret in a header, \
                    anonymous lets everybody in";

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
