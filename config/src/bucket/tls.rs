//! Whom a bucket's https endpoints are believed.
//!
//! The file is read at the start, so that a missing one stops it there and not at the first request. Deliberately absent:
//! a way not to verify certificates. Whoever has a private authority names it.

use std::io;

use crate::form::{Fault, Faults, Flag, Form, shown};
use crate::regular_file::read_text;
use crate::section::section;
use crate::setting::Raw;
use crate::walk::{Section, key, unset};

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

section! {
    /// Whom https endpoints are believed.
    pub struct TlsConfig {
        /// file of certificates (PEM) of authorities that are trusted for https
        pub ca_file: Option<Pem> = unset("ca_file", PemIn, "none of its own");
        /// whether the system's authorities are trusted too
        ///
        /// `false` with a `ca_file` pins the bucket to that authority.
        pub system_roots: bool = key("system_roots", Flag, true);
    }
}

impl TlsConfig {
    /// Refuses https endpoints that nobody could be believed for.
    pub(crate) fn check(&self, section: &mut Section<'_>) {
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

/// Why a file gives no certificates.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// it cannot be opened or read
    #[error("{path} cannot be read: {source}")]
    Read {
        /// the file
        path: String,
        /// what the system said
        source: io::Error,
    },
    /// there is none in it
    #[error("{path} holds no certificate")]
    Empty {
        /// the file
        path: String,
    },
}

impl Pem {
    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read, or holds no certificate.
    pub fn read(path: &str) -> Result<Self, PemError> {
        let text = read_text(path).map_err(|source| PemError::Read { path: shown(path), source })?;
        if !text.contains(CERTIFICATE) {
            return Err(PemError::Empty { path: shown(path) });
        }
        Ok(Self { path: path.to_owned(), text })
    }
}

/// The path of a file of certificates.
pub(crate) struct PemIn;

impl Form for PemIn {
    type Value = Pem;

    fn parse(&self, raw: &Raw) -> Result<Pem, Faults> {
        Ok(Pem::read(raw.text()?).map_err(|error| match error {
            PemError::Read { .. } => Fault::new(error.to_string()),
            PemError::Empty { .. } => {
                Fault::new(error.to_string()).hinting(format!("PEM begins with {CERTIFICATE}"))
            }
        })?)
    }

    fn accepts(&self) -> String {
        "path of a PEM file".to_owned()
    }

    fn show(&self, value: &Pem) -> String {
        shown(&value.path)
    }
}
