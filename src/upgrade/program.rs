//! The program file and the arguments of this process, for the start of its successor.

use std::env;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// The hidden argument of a successor.
pub(super) const UPGRADE_ON_STDIN: &str = "--upgrade-on-stdin";

/// The program file and the arguments of this process.
#[derive(Debug, Clone)]
pub struct UpgradeProgram {
    pub(super) path: PathBuf,
    pub(super) arguments: Vec<OsString>,
}

impl UpgradeProgram {
    /// Those of this process. Must be called at its start: later another file can have the name. `hidden` are arguments that a process
    /// gives itself.
    ///
    /// A path on the command line is kept as it is written, so that a symbolic link to another version leads to that version.
    #[must_use]
    pub fn of_this_process(hidden: &[&str]) -> Self {
        let mut arguments = env::args_os();
        let name = PathBuf::from(arguments.next().unwrap_or_default());
        let is_path = name.as_os_str().as_bytes().contains(&b'/') && name.is_file();
        let found = if is_path { std::path::absolute(&name) } else { env::current_exe() };
        // Without /proc the start of a successor fails, and not that of this process.
        let path = found.unwrap_or(name);
        let is_own = |argument: &OsString| {
            argument == UPGRADE_ON_STDIN || hidden.iter().any(|hidden| argument == *hidden)
        };
        Self { path, arguments: arguments.filter(|argument| !is_own(argument)).collect() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}
