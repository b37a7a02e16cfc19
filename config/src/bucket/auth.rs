//! How clients may prove who they are.
//!
//! Methods that are planned are known by name, so that a configuration that counts on one is refused with
//! the true reason. To ignore the word would leave a bucket closed for no visible reason, or worse, open.

use crate::form::{Fault, Faults, Form, shown};
use crate::setting::Raw;

/// A way for clients to prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMethod {
    /// a signature by a client key (AWS Signature Version 4)
    Sigv4,
    /// no proof: whoever reaches the listener may do what `anonymous` says
    Anonymous,
}

const METHODS: [(&str, AuthMethod); 2] = [("sigv4", AuthMethod::Sigv4), ("anonymous", AuthMethod::Anonymous)];
const PLANNED: [&str; 2] = ["jwt", "api_key"];

pub(super) struct Method;

impl Form for Method {
    type Value = AuthMethod;

    fn parse(&self, raw: &Raw) -> Result<AuthMethod, Faults> {
        let word = raw.scalar()?.trim();
        if let Some((_, method)) = METHODS.iter().find(|(name, _)| *name == word) {
            return Ok(*method);
        }
        let fault = if PLANNED.contains(&word) {
            Fault::new(format!("{} is not implemented yet", shown(word)))
        } else {
            Fault::new(format!("{} is no authentication method", shown(word)))
        };
        Err(fault.hinting("sigv4 asks for a client key's signature, anonymous lets everybody in").into())
    }

    fn accepts(&self) -> String {
        METHODS.map(|(name, _)| name).join(", ")
    }

    fn show(&self, value: &AuthMethod) -> String {
        let name = METHODS.iter().find(|(_, method)| method == value).map_or("", |(name, _)| name);
        format!("\"{name}\"")
    }
}
