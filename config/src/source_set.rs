//! The sources of a running gateway, which can be loaded again.
//!
//! Variables are those of the start: the environment of a running process cannot be changed, and its secrets were taken out of it. The
//! file and all files that it names are read anew by each load.
//!
//! A reload has stricter rules for the file than a start. At a start an operator sees the warnings. A reload may have no operator, so a
//! file that another user could have written is refused, and a file that may be cut off is an error of its own.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::source::{FILE_VARIABLE, Sources};
use crate::{Config, Loaded, Problem, Problems, load_again, load_for_client, load_with_warnings};

/// The sources of a configuration, for its start and each reload. There is no `Debug`, because the values may be secrets.
pub struct SourceSet {
    file: Option<PathBuf>,
    variables: Vec<(OsString, Zeroizing<Vec<u8>>)>,
    is_strict: bool,
}

impl SourceSet {
    /// Keeps this file, if one is named, and these variables. With `is_strict` warnings are errors.
    pub fn new(
        file: Option<PathBuf>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
        is_strict: bool,
    ) -> Self {
        let kept = |(name, value): (OsString, OsString)| (name, Zeroizing::new(value.into_vec()));
        Self { file, variables: variables.into_iter().map(kept).collect(), is_strict }
    }

    /// Loads the configuration for a start. Its caller treats warnings as errors if it is strict, after it has added its own.
    ///
    /// # Errors
    /// A source cannot be read, or a setting is invalid.
    pub fn load(&self) -> Result<Loaded, Problems> {
        load_with_warnings(self.sources())
    }

    /// Loads the configuration anew, by the rules for a running gateway.
    ///
    /// # Errors
    /// The same; or others can write or replace the file, the file is empty, or there are warnings and they are errors.
    pub fn reload(&self) -> Result<Loaded, Problems> {
        let loaded = load_again(self.sources())?;
        if self.is_strict {
            loaded.warnings.clone().refuse()?;
        }
        Ok(loaded)
    }

    /// Loads the configuration for the successor of a running gateway: a file that was cut off must not replace it.
    ///
    /// # Errors
    /// Those of `reload`; or no bucket is configured.
    pub fn load_for_successor(&self) -> Result<Loaded, Problems> {
        let loaded = self.reload()?;
        if loaded.config.buckets.is_empty() {
            Problems::none_or(vec![Problem::no_buckets_left()])?;
        }
        Ok(loaded)
    }

    /// Loads what a client of the running gateway needs: the sections `server` and `admin`.
    ///
    /// # Errors
    /// The file cannot be read, or a key of `admin` is invalid.
    pub fn load_for_client(&self) -> Result<Config, Problems> {
        load_for_client(self.sources())
    }

    /// The same without the file, for a client that has the URL of the gateway.
    ///
    /// # Errors
    /// A variable of `admin` is invalid.
    pub fn load_for_client_without_file(&self) -> Result<Config, Problems> {
        load_for_client(
            Sources::default().environment(self.variables().filter(|(name, _)| name != FILE_VARIABLE)),
        )
    }

    fn sources(&self) -> Sources {
        let sources = Sources::default().environment(self.variables());
        match &self.file {
            Some(file) => sources.file(file),
            None => sources,
        }
    }

    fn variables(&self) -> impl Iterator<Item = (OsString, &OsStr)> {
        self.variables.iter().map(|(name, value)| (name.clone(), OsStr::from_bytes(value)))
    }
}
