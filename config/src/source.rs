//! The sources of a configuration and how they are laid over one another: defaults < file < environment.
//!
//! The environment is an argument: `environment()` is the only place that reads the process's, so tests and
//! reloads can bring their own. It is also why a variable's value can be checked like any other.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use crate::document;
use crate::file_access::{self, Exposure};
use crate::form::Fault;
use crate::problem::{Origin, Problem};
use crate::regular_file::open_regular;
use crate::service_link;
use crate::setting::{KeyPath, Raw, Setting, Settings, VARIABLE_PREFIX};

/// Names the configuration file where no argument does.
pub(crate) const FILE_VARIABLE: &str = "TIDEGATE_CONFIG";
/// A configuration is written by people; whatever is larger is another file.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The process's environment variables with tidegate's prefix, in any case: a variable in lower case is a mistake to report.
pub fn environment() -> Vec<(OsString, OsString)> {
    env::vars_os().filter(|(name, _)| has_prefix(&name.to_string_lossy())).collect()
}

fn has_prefix(name: &str) -> bool {
    name.get(..VARIABLE_PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(VARIABLE_PREFIX))
}

/// What a configuration is read from. The default is no source at all: every key has its default.
///
/// There is no `Debug`, because the values may be secrets.
#[derive(Default)]
pub struct Sources {
    file: Option<PathBuf>,
    text: Option<(PathBuf, String)>,
    environment: Vec<(OsString, OsString)>,
}

impl Sources {
    /// Reads this file, whatever `TIDEGATE_CONFIG` names.
    #[must_use]
    pub fn file(self, path: impl Into<PathBuf>) -> Self {
        Self { file: Some(path.into()), ..self }
    }

    /// Reads `text` in place of any file; `name` stands for it in problems, and its extension says what it is.
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

    /// Lays the sources over one another; what could not be read at all is a problem.
    pub(crate) fn merge(self) -> Layers {
        let Self { file, text, environment } = self;
        let mut layers = Layers::default();
        let mut variables = layers.readable(environment);
        let links = service_link::find(&variables);
        variables.retain(|(name, _)| !links.contains(name));
        layers.notes.extend(note_of(&links));
        // an empty variable is how a shell takes a setting back for one command
        let named = variables.iter().find(|(name, value)| name == FILE_VARIABLE && !value.is_empty());
        match (text, file, named) {
            (Some((name, text)), _, _) => layers.lay_document(&name, &text, &Origin::File(name.clone())),
            (None, Some(path), _) => layers.lay_file(&path, &Origin::CommandLine),
            (None, None, Some((name, path))) => {
                layers.lay_file(Path::new(path), &Origin::Variable(name.clone()));
            }
            (None, None, None) => {}
        }
        layers.lay_variables(variables);
        layers
    }
}

/// One line for all variables that Kubernetes made.
fn note_of(links: &BTreeSet<String>) -> Option<Problem> {
    let first = links.first()?;
    let (count, plural) = (links.len(), if links.len() == 1 { "" } else { "s" });
    Some(Problem {
        key: "environment".to_owned(),
        source: Origin::Variable(first.clone()),
        message: format!("{count} variable{plural} that Kubernetes makes for a Service ignored"),
        hint: Some("enableServiceLinks: false in the pod leaves them out".to_owned()),
    })
}

/// The merged sources, and what reading them found.
#[derive(Default)]
pub(crate) struct Layers {
    pub(crate) settings: Settings,
    pub(crate) problems: Vec<Problem>,
    /// what was ignored on purpose
    pub(crate) notes: Vec<Problem>,
    /// why the configuration file is no place for a secret, if it is none
    pub(crate) exposure: Option<(PathBuf, Exposure)>,
}

impl Layers {
    /// Tidegate's variables in a fixed order; one that is not text is a problem.
    fn readable(&mut self, environment: Vec<(OsString, OsString)>) -> Vec<(String, String)> {
        let mut variables = Vec::new();
        for (name, value) in environment {
            let name = name.to_string_lossy().into_owned();
            match value.into_string() {
                _ if !has_prefix(&name) => {}
                _ if !name.starts_with(VARIABLE_PREFIX) => {
                    let key = KeyPath::of_variable(&name.to_uppercase());
                    let fault = Fault::new("variables are written in capitals")
                        .hinting(format!("did you mean {}?", key.variable()));
                    self.refuse(key.to_string(), Origin::Variable(name), fault);
                }
                Ok(value) => variables.push((name, value)),
                Err(_) => {
                    let key = KeyPath::of_variable(&name).to_string();
                    self.refuse(key, Origin::Variable(name), Fault::new("is not UTF-8 text"));
                }
            }
        }
        variables.sort();
        variables
    }

    fn lay_file(&mut self, path: &Path, named_by: &Origin) {
        match read(path) {
            Ok((text, exposure)) => {
                self.exposure = exposure.map(|exposure| (path.to_owned(), exposure));
                self.lay_document(path, &text, &Origin::File(path.to_owned()));
            }
            Err(error) => {
                let fault = Fault::new(format!("cannot be read: {}", describe(&error)));
                self.refuse(path.display().to_string(), named_by.clone(), fault);
            }
        }
    }

    fn lay_document(&mut self, name: &Path, text: &str, origin: &Origin) {
        match document::parse(name, text) {
            Ok(leaves) => {
                let settings =
                    leaves.into_iter().map(|(path, raw)| (path, Setting { raw, origin: origin.clone() }));
                self.settings.extend(settings);
            }
            Err(fault) => self.refuse(name.display().to_string(), origin.clone(), fault),
        }
    }

    /// A key that two variables spell would depend on their order, which nobody chose.
    fn lay_variables(&mut self, variables: Vec<(String, String)>) {
        for (name, value) in variables.into_iter().filter(|(name, _)| name != FILE_VARIABLE) {
            let path = KeyPath::of_variable(&name);
            let key = path.to_string();
            let origin = Origin::Variable(name);
            let setting = Setting { raw: Raw::Variable(value), origin: origin.clone() };
            let earlier = self.settings.insert(path, setting).map(|earlier| earlier.origin);
            if let Some(Origin::Variable(earlier)) = earlier {
                self.refuse(key, origin, Fault::new(format!("is set by {earlier} too")));
            }
        }
    }

    fn refuse(&mut self, key: String, source: Origin, fault: Fault) {
        let Fault { message, hint } = fault;
        self.problems.push(Problem { key, source, message, hint });
    }
}

/// The text, and who else can reach it.
fn read(path: &Path) -> io::Result<(String, Option<Exposure>)> {
    let mut text = String::new();
    let file = open_regular(path)?;
    let exposure = file_access::exposure(&file, path)?;
    let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if read as u64 > FILE_BYTES_MAX {
        return Err(ErrorKind::FileTooLarge.into());
    }
    Ok((text, exposure))
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "there is no such file".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
        ErrorKind::Other => error.to_string(),
        kind => kind.to_string(),
    }
}
