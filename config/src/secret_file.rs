//! Files that hold a secret (C5). A file that other users can reach is rejected, whatever its content (`file_access.rs`).
//!
//! The file is small UTF-8 text. Its last line break is not part of the secret: editors and `echo` add one. Symbolic links are
//! followed, because orchestrators mount secrets behind links and rotate them by replacing a link. Errors name the path, never the
//! content.

use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::bucket::Secret;
use crate::effective::Shown;
use crate::file_access::{self, Exposure};
use crate::fingerprint::Fingerprint;
use crate::regular_file::open_regular;
use crate::setting::Raw;
use crate::value_type::{ValueError, ValueErrors, ValueType, quoted, toml_text};

/// A secret has one line or a few lines.
const FILE_BYTES_MAX: u64 = 64 << 10;

const BYTE_ORDER_MARK: char = '\u{feff}';

/// Why a secret cannot be read from a file.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// it cannot be opened or read
    #[error("{path} cannot be read: {source}")]
    Read {
        /// the file
        path: String,
        /// the error of the system
        source: io::Error,
    },
    /// other users can reach it
    #[error("{path} {exposure}")]
    Exposed {
        /// the file
        path: String,
        /// how other users can reach it
        exposure: Exposure,
    },
    /// it begins with a byte order mark of an editor, which would become part of the secret
    #[error("{path} begins with a byte order mark (UTF-8 BOM); save it as UTF-8 without one")]
    ByteOrderMark {
        /// the file
        path: String,
    },
    /// it is empty
    #[error("{path} is empty")]
    Empty {
        /// the file
        path: String,
    },
}

/// The path of a file that holds a secret. The file can be read again after a rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFile(PathBuf);

impl SecretFile {
    /// The path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Reads the secret.
    ///
    /// # Errors
    /// It cannot be read, other users can reach it, or it is empty or begins with a byte order mark.
    pub fn read(&self) -> Result<Secret, SecretFileError> {
        let path = || quoted(&self.0.display().to_string());
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

/// The text, or how other users can reach the file.
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

/// The path of a file with a secret. The file must be readable at the start.
pub(crate) struct SecretPath;

impl SecretPath {
    /// The file and its content.
    pub(crate) fn open(raw: &Raw) -> Result<(SecretFile, Secret), ValueError> {
        let file = SecretFile(PathBuf::from(raw.text()?));
        match file.read() {
            Ok(secret) => Ok((file, secret)),
            Err(error) => {
                let value_error = ValueError::new(error.to_string());
                Err(match error {
                    SecretFileError::Exposed { exposure, .. } => value_error.with_hint(exposure.remedy()),
                    _ => value_error,
                })
            }
        }
    }
}

impl ValueType for SecretPath {
    type Value = SecretFile;

    fn parse(&self, raw: &Raw) -> Result<SecretFile, ValueErrors> {
        Ok(Self::open(raw)?.0)
    }

    fn accepts(&self) -> String {
        "path of a file that other users cannot read".to_owned()
    }

    fn to_toml(&self, value: &SecretFile) -> String {
        toml_text(&value.0.display().to_string())
    }
}

/// The path of a file that holds the value.
pub(crate) struct SecretFromFile;

impl ValueType for SecretFromFile {
    type Value = Secret;

    fn parse(&self, raw: &Raw) -> Result<Secret, ValueErrors> {
        let (file, secret) = SecretPath::open(raw)?;
        if secret.expose().chars().any(|c| c.is_control() || c.is_whitespace()) {
            let path = quoted(&file.path().display().to_string());
            return Err(ValueError::new(format!("{path} has blanks or more than one line")).into());
        }
        Ok(secret)
    }

    fn accepts(&self) -> String {
        SecretPath.accepts()
    }

    fn shown(&self, _: &Secret, raw: Option<&Raw>) -> Shown {
        Shown::path(raw)
    }

    fn fingerprint(&self, value: &Secret) -> Option<Fingerprint> {
        Some(Fingerprint::of(value.expose()))
    }

    fn to_toml(&self, _: &Secret) -> String {
        "\"…\"".to_owned()
    }
}
