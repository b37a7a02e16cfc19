//! Warnings about where the log goes.

use crate::form::shown;
use crate::walk::Section;
use crate::{Config, LogOutput};

/// A bare word: its writer may have meant a name for an output that there is none of, such as `-` or `syslog`.
pub(super) fn find(root: &mut Section<'_>, config: &Config) {
    let LogOutput::File(path) = &config.log.output else { return };
    let name = path.to_string_lossy();
    if !name.contains(['/', '.']) {
        let message = format!("{} is taken for a file in the working directory", shown(&name));
        let hint = format!("the words are stdout and stderr; ./{name} names the file");
        root.child("log").warn("output", message, hint);
    }
}
