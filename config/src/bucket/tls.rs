//! Whom a bucket's https endpoints are believed.
//!
//! The file is read at the start, so that a missing one stops it there and not at the first request. Deliberately absent:
//! a way not to verify certificates. Whoever has a private authority names it.

use std::fs;

use crate::form::{Fault, Faults, Flag, Form, shown};
use crate::section::section;
use crate::setting::Raw;
use crate::walk::{Section, key, unset};

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

section! {
    /// Whom https endpoints are believed.
    pub struct TlsConfig {
        /// file of certificates (PEM) of authorities that are believed for this bucket's https endpoints
        pub ca_file: Option<Pem> = unset("ca_file", PemIn, "none of its own");
        /// whether the system's authorities are believed too
        ///
        /// `false` with a `ca_file` pins the bucket to that authority.
        pub system_roots: bool = key("system_roots", Flag, true);
    }
}

impl TlsConfig {
    /// Refuses https endpoints that nobody could be believed for.
    pub(super) fn check(&self, section: &mut Section<'_>) {
        if !self.system_roots && self.ca_file.is_none() && !section.is_set("ca_file") {
            let message = "leaves no authority to believe".to_owned();
            section.refuse("system_roots", message, Some(format!("set {}", section.spell("ca_file"))));
        }
    }
}

/// Certificates as text, and the file they came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pem {
    /// the file
    pub path: String,
    /// its text
    pub text: String,
}

struct PemIn;

impl Form for PemIn {
    type Value = Pem;

    fn parse(&self, raw: &Raw) -> Result<Pem, Faults> {
        let path = raw.text()?;
        let text = fs::read_to_string(path)
            .map_err(|error| Fault::new(format!("{} cannot be read: {error}", shown(path))))?;
        if !text.contains(CERTIFICATE) {
            let fault = Fault::new(format!("{} holds no certificate", shown(path)));
            return Err(fault.hinting(format!("PEM begins with {CERTIFICATE}")).into());
        }
        Ok(Pem { path: path.to_owned(), text })
    }

    fn accepts(&self) -> String {
        "path of a PEM file".to_owned()
    }

    fn show(&self, value: &Pem) -> String {
        shown(&value.path)
    }
}
