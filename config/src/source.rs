//! The sources of a configuration and their precedence: defaults < file < environment.
//!
//! The environment is an argument: only `environment()` reads the environment of the process, so that tests and reloads can use
//! another one. Values of variables are checked like all others.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::cut_text::CutText;
use crate::document::{self, Leaf};
use crate::file_access::{self, Exposure};
use crate::problem::{Origin, Problem};
use crate::regular_file::open_regular;
use crate::service_link;
use crate::setting::{KeyPath, Raw, Setting, Settings, VARIABLE_PREFIX};
use crate::value_type::ValueError;

/// The variable with the path of the configuration file; the argument has precedence.
pub(crate) const FILE_VARIABLE: &str = "TIDEGATE_CONFIG";
/// A larger file is not a configuration.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The environment variables of the process with tidegate's prefix, in any case: a variable in lower case is reported as a mistake.
pub fn environment() -> Vec<(OsString, OsString)> {
    env::vars_os().filter(|(name, _)| has_prefix(&name.to_string_lossy())).collect()
}

fn has_prefix(name: &str) -> bool {
    name.get(..VARIABLE_PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(VARIABLE_PREFIX))
}

/// The sources of a configuration. The default is no source: every key has its default.
///
/// There is no `Debug`, because the values may be secrets.
#[derive(Default)]
pub struct Sources {
    file: Option<PathBuf>,
    text: Option<(PathBuf, String)>,
    environment: Vec<(OsString, OsString)>,
}

impl Sources {
    /// Reads this file and ignores `TIDEGATE_CONFIG`.
    #[must_use]
    pub fn file(self, path: impl Into<PathBuf>) -> Self {
        Self { file: Some(path.into()), ..self }
    }

    /// Reads `text` instead of a file; problems refer to it by `name`, and the extension of `name` gives the format.
    #[must_use]
    pub fn text(self, name: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        Self { text: Some((name.into(), text.into())), ..self }
    }

    /// Reads these variables; those without the prefix are ignored.
    #[must_use]
    pub fn environment<N: Into<OsString>, V: Into<OsString>>(
        self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let environment = variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { environment, ..self }
    }

    /// Merges the sources. A source that cannot be read is a problem.
    pub(crate) fn merge(self) -> MergedSources {
        let Self { file, text, environment } = self;
        let mut merged = MergedSources::default();
        let mut variables = merged.readable(environment);
        let links = service_link::find(&variables);
        variables.retain(|(name, _)| !links.contains(name));
        merged.notes.extend(note_of(&links));
        // a shell sets a variable to empty to unset it for one command
        let named = variables.iter().find(|(name, value)| name == FILE_VARIABLE && !value.is_empty());
        match (text, file, named) {
            (Some((name, text)), _, _) => merged.merge_document(&name, &text, &Origin::File(name.clone())),
            (None, Some(path), _) => merged.merge_file(&path, &Origin::CommandLine),
            (None, None, Some((name, path))) => {
                merged.merge_file(Path::new(path), &Origin::Variable(name.clone()));
            }
            (None, None, None) => {}
        }
        merged.merge_variables(variables);
        merged
    }
}

/// One note for all variables that Kubernetes set.
fn note_of(links: &BTreeSet<String>) -> Option<Problem> {
    let first = links.first()?;
    let (count, plural) = (links.len(), if links.len() == 1 { "" } else { "s" });
    Some(Problem {
        key: "environment".to_owned(),
        source: Origin::Variable(first.clone()),
        line: None,
        message: format!("{count} variable{plural} that Kubernetes set for a Service ignored"),
        hint: Some("enableServiceLinks: false in the pod turns them off".to_owned()),
    })
}

/// The merged sources, and the problems of reading them.
#[derive(Default)]
pub(crate) struct MergedSources {
    pub(crate) settings: Settings,
    pub(crate) problems: Vec<Problem>,
    /// settings that were ignored on purpose
    pub(crate) notes: Vec<Problem>,
    /// the configuration file, if it was read
    pub(crate) file: Option<ConfigFile>,
}

/// What is known of the configuration file beside its settings.
pub(crate) struct ConfigFile {
    pub(crate) path: PathBuf,
    /// how other users can reach it
    pub(crate) exposure: Option<Exposure>,
    /// how other users can change it
    pub(crate) write_exposure: Option<Exposure>,
    /// why its text may be a part of a longer one
    pub(crate) cut: Option<CutText>,
}

impl MergedSources {
    /// Tidegate's variables, sorted; a variable that is not UTF-8 is a problem.
    fn readable(&mut self, environment: Vec<(OsString, OsString)>) -> Vec<(String, String)> {
        let mut variables = Vec::new();
        for (name, value) in environment {
            let name = name.to_string_lossy().into_owned();
            match value.into_string() {
                _ if !has_prefix(&name) => {}
                _ if !name.starts_with(VARIABLE_PREFIX) => {
                    let key = KeyPath::of_variable(&name.to_uppercase());
                    let error = ValueError::new("names of variables are in upper case")
                        .with_hint(format!("did you mean {}?", key.variable()));
                    self.refuse(key.to_string(), Origin::Variable(name), error);
                }
                Ok(value) => variables.push((name, value)),
                Err(_) => {
                    let key = KeyPath::of_variable(&name).to_string();
                    self.refuse(key, Origin::Variable(name), ValueError::new("is not UTF-8 text"));
                }
            }
        }
        variables.sort();
        variables
    }

    fn merge_file(&mut self, path: &Path, named_by: &Origin) {
        match read(path) {
            Ok((text, file)) => {
                self.file = Some(file);
                self.merge_document(path, &text, &Origin::File(path.to_owned()));
            }
            Err(error) => {
                let error = ValueError::new(format!("cannot be read: {}", describe(&error)));
                self.refuse(path.display().to_string(), named_by.clone(), error);
            }
        }
    }

    fn merge_document(&mut self, name: &Path, text: &str, origin: &Origin) {
        match document::parse(name, text) {
            Ok(leaves) => {
                let setting =
                    |Leaf { path, raw, line }| (path, Setting { raw, origin: origin.clone(), line });
                // a map is built at once from a list in its order, and a document mostly is in that order
                self.settings.append(&mut leaves.into_iter().map(setting).collect());
            }
            Err(error) => self.refuse(name.display().to_string(), origin.clone(), error),
        }
    }

    /// Merges the variables. Two variables for one key are rejected: the result would depend on their order.
    fn merge_variables(&mut self, variables: Vec<(String, String)>) {
        for (name, value) in variables.into_iter().filter(|(name, _)| name != FILE_VARIABLE) {
            let path = KeyPath::of_variable(&name);
            let key = path.to_string();
            let origin = Origin::Variable(name);
            let setting = Setting { raw: Raw::Variable(value), origin: origin.clone(), line: None };
            let earlier = self.settings.insert(path, setting);
            if let Some(Origin::Variable(earlier)) = earlier.as_ref().map(|earlier| &earlier.origin) {
                self.refuse(key, origin, ValueError::new(format!("is also set by {earlier}")));
            }
        }
    }

    fn refuse(&mut self, key: String, source: Origin, error: ValueError) {
        let ValueError { message, hint } = error;
        self.problems.push(Problem { key, source, line: None, message, hint });
    }
}

/// The text of the file, and what else is known of it.
fn read(path: &Path) -> io::Result<(Zeroizing<String>, ConfigFile)> {
    let mut text = Zeroizing::new(String::new());
    let file = open_regular(path)?;
    let exposure = file_access::exposure(&file, path)?;
    let write_exposure = file_access::write_exposure(&file, path)?;
    let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if read as u64 > FILE_BYTES_MAX {
        return Err(ErrorKind::FileTooLarge.into());
    }
    let cut = CutText::find(&text, document::is_yaml(path));
    Ok((text, ConfigFile { path: path.to_owned(), exposure, write_exposure, cut }))
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "no such file".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        ErrorKind::InvalidData => "not UTF-8 text".to_owned(),
        ErrorKind::Other => error.to_string(),
        kind => kind.to_string(),
    }
}
