//! Files that hold a secret (C5): one that others can reach is refused, whatever is in it (`file_access.rs`).
//!
//! A file is small, is text, and its last line break is no part of it, because editors and `echo` leave one. Symbolic links
//! are followed, because orchestrators mount secrets behind them and rotate them by replacing a link. Errors name the path,
//! never the content.

use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::bucket::Secret;
use crate::file_access::{self, Exposure};
use crate::form::{Fault, Faults, Form, shown};
use crate::regular_file::open_regular;
use crate::setting::Raw;

/// A secret is a line, or a few of them.
const FILE_BYTES_MAX: u64 = 64 << 10;

const BYTE_ORDER_MARK: char = '\u{feff}';

/// Why a file gives no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// it cannot be opened or read
    #[error("{path} cannot be read: {source}")]
    Read {
        /// the file
        path: String,
        /// what the system said
        source: io::Error,
    },
    /// others can reach it
    #[error("{path} {exposure}")]
    Exposed {
        /// the file
        path: String,
        /// how they can
        exposure: Exposure,
    },
    /// an editor left a mark that would be part of the secret
    #[error("{path} begins with a byte order mark (UTF-8 BOM); save it as UTF-8 without one")]
    ByteOrderMark {
        /// the file
        path: String,
    },
    /// there is nothing in it
    #[error("{path} is empty")]
    Empty {
        /// the file
        path: String,
    },
}

/// The path of a file that holds a secret. It can be read again, for whoever rotates what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFile(PathBuf);

impl SecretFile {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Reads the secret.
    ///
    /// # Errors
    /// It cannot be read, others can reach it, or it is empty or begins with a byte order mark.
    pub fn read(&self) -> Result<Secret, SecretFileError> {
        let path = || shown(&self.0.display().to_string());
        let text = read(&self.0)
            .map_err(|source| SecretFileError::Read { path: path(), source })?
            .map_err(|exposure| SecretFileError::Exposed { path: path(), exposure })?;
        if text.starts_with(BYTE_ORDER_MARK) {
            return Err(SecretFileError::ByteOrderMark { path: path() });
        }
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() { Err(SecretFileError::Empty { path: path() }) } else { Ok(Secret::new(line)) }
    }
}

/// The text, or why it must not be read.
fn read(path: &Path) -> io::Result<Result<Zeroizing<String>, Exposure>> {
    let file = open_regular(path)?;
    if let Some(exposure) = file_access::exposure(&file, path)? {
        return Ok(Err(exposure));
    }
    let mut text = Zeroizing::new(String::new());
    if file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)? as u64 > FILE_BYTES_MAX {
        return Err(ErrorKind::FileTooLarge.into());
    }
    Ok(Ok(text))
}

/// The path of a secret's file, which must be readable now.
pub(crate) struct SecretPath;

impl SecretPath {
    /// The file and what is in it.
    pub(crate) fn open(raw: &Raw) -> Result<(SecretFile, Secret), Fault> {
        let file = SecretFile(PathBuf::from(raw.text()?));
        match file.read() {
            Ok(secret) => Ok((file, secret)),
            Err(error) => {
                let fault = Fault::new(error.to_string());
                Err(match error {
                    SecretFileError::Exposed { exposure, .. } => fault.hinting(exposure.remedy()),
                    _ => fault,
                })
            }
        }
    }
}

impl Form for SecretPath {
    type Value = SecretFile;

    fn parse(&self, raw: &Raw) -> Result<SecretFile, Faults> {
        Ok(Self::open(raw)?.0)
    }

    fn accepts(&self) -> String {
        "path of a file that others cannot read".to_owned()
    }

    fn show(&self, value: &SecretFile) -> String {
        shown(&value.0.display().to_string())
    }
}

/// The path of a file whose content is the value.
pub(crate) struct SecretIn;

impl Form for SecretIn {
    type Value = Secret;

    fn parse(&self, raw: &Raw) -> Result<Secret, Faults> {
        let (file, secret) = SecretPath::open(raw)?;
        if secret.expose().chars().any(|c| c.is_control() || c.is_whitespace()) {
            let path = shown(&file.path().display().to_string());
            return Err(Fault::new(format!("{path} holds blanks or more than one line")).into());
        }
        Ok(secret)
    }

    fn accepts(&self) -> String {
        SecretPath.accepts()
    }

    fn show(&self, _: &Secret) -> String {
        "\"…\"".to_owned()
    }
}
