//! Trusted certificate authorities of https endpoints.
//!
//! The file is read at the start, so a missing file stops the start, not the first request. Verification of certificates cannot be
//! turned off: set `ca_file` for a private authority.

use std::io;

use crate::fingerprint::Fingerprint;
use crate::regular_file::read_text;
use crate::schema::{Section, key, unset};
use crate::section::section;
use crate::setting::Raw;
use crate::value_type::{Flag, ValueError, ValueErrors, ValueType, quoted, toml_text};

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

section! {
    /// Trusted certificate authorities.
    pub struct TlsConfig {
        /// PEM file of trusted certificate authorities for https endpoints
        pub ca_file: Option<Pem> = unset("ca_file", PemFromFile, "none");
        /// also trusts the certificate authorities of the system
        ///
        /// `false` with a `ca_file` accepts only certificates of that authority.
        pub system_roots: bool = key("system_roots", Flag, true);
    }
}

impl TlsConfig {
    /// Rejects a configuration without a trusted authority.
    pub(crate) fn check(&self, section: &mut Section<'_>) {
        if !self.system_roots && self.ca_file.is_none() && !section.is_set("ca_file") {
            let message = "leaves no trusted certificate authority".to_owned();
            section.refuse("system_roots", message, Some(format!("set {}", section.full_key("ca_file"))));
        }
    }
}

/// Certificates or public keys in PEM, and their file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pem {
    /// the file
    pub path: String,
    /// its text
    pub text: String,
}

/// Why certificates cannot be read from a file.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// it cannot be opened or read
    #[error("{path} cannot be read: {source}")]
    Read {
        /// the file
        path: String,
        /// the error of the system
        source: io::Error,
    },
    /// it has no certificate
    #[error("{path} has no certificate")]
    Empty {
        /// the file
        path: String,
    },
}

impl Pem {
    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read, or has no certificate.
    pub fn read(path: &str) -> Result<Self, PemError> {
        let text = read_text(path).map_err(|source| PemError::Read { path: quoted(path), source })?;
        if !text.contains(CERTIFICATE) {
            return Err(PemError::Empty { path: quoted(path) });
        }
        Ok(Self { path: path.to_owned(), text })
    }
}

/// The path of a file of certificates.
pub(crate) struct PemFromFile;

impl ValueType for PemFromFile {
    type Value = Pem;

    fn parse(&self, raw: &Raw) -> Result<Pem, ValueErrors> {
        Ok(Pem::read(raw.text()?).map_err(|error| match error {
            PemError::Read { .. } => ValueError::new(error.to_string()),
            PemError::Empty { .. } => ValueError::new(error.to_string())
                .with_hint(format!("a PEM certificate begins with {CERTIFICATE}")),
        })?)
    }

    fn accepts(&self) -> String {
        "path of a PEM file".to_owned()
    }

    fn fingerprint(&self, value: &Pem) -> Option<Fingerprint> {
        Some(Fingerprint::of(&value.text))
    }

    fn to_toml(&self, value: &Pem) -> String {
        toml_text(&value.path)
    }
}
