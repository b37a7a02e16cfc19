//! Warnings about the output of the log.

use crate::schema::Section;
use crate::value_type::quoted;
use crate::{Config, LogOutput};

/// A bare word: the user may have meant an output that does not exist, such as `-` or `syslog`.
pub(super) fn find(root: &mut Section<'_>, config: &Config) {
    let LogOutput::File(path) = &config.log.output else { return };
    let name = path.to_string_lossy();
    if !name.contains(['/', '.']) {
        let message = format!("{} is used as a file in the working directory", quoted(&name));
        let hint = format!("use stdout or stderr, or ./{name} for the file");
        root.child("log").warn("output", message, hint);
    }
}
