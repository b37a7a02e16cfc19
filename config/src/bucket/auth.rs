//! How clients may prove who they are.
//!
//! Methods that are planned are known by name, so that a configuration that counts on one is refused with
//! the true reason. To ignore the word would leave a bucket closed for no visible reason, or worse, open.

use crate::form::{Fault, Faults, Form, shown};
use crate::setting::Raw;

/// A way for clients to prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMethod {
    /// no proof: whoever reaches the listener may read and write
    Anonymous,
}

const PLANNED: [&str; 3] = ["sigv4", "jwt", "api_key"];

pub(super) struct Method;

impl Form for Method {
    type Value = AuthMethod;

    fn parse(&self, raw: &Raw) -> Result<AuthMethod, Faults> {
        let word = raw.scalar()?.trim();
        if word == "anonymous" {
            return Ok(AuthMethod::Anonymous);
        }
        let fault = if PLANNED.contains(&word) {
            Fault::new(format!("{} is not implemented yet", shown(word)))
        } else {
            Fault::new(format!("{} is no authentication method", shown(word)))
        };
        Err(fault.hinting("only anonymous is implemented, and it lets everybody in").into())
    }

    fn accepts(&self) -> String {
        "anonymous".to_owned()
    }

    fn show(&self, value: &AuthMethod) -> String {
        match value {
            AuthMethod::Anonymous => "\"anonymous\"".to_owned(),
        }
    }
}
