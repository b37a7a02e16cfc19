//! Which configuration files a running gateway refuses to load, beyond the rules of a start.
//!
//! A reload may happen without an operator. So a file that other users could have written or replaced is an error, where a start only
//! warns about it. A file that was read while it was being written is shorter than it should be: `cut_text.rs` finds the signs of that, and
//! an error in its format has the fix as its hint. A file that was cut off at the end of a line can look like a whole one.

use crate::problem::{Origin, Problem};
use crate::source::{ConfigFile, MergedSources};

const WRITE_ASIDE: &str =
    "if the file was still being written, load it again; write it aside and rename it over the old one";

/// Adds the problems of the configuration file to those of the sources.
pub(crate) fn add_problems(merged: &mut MergedSources) {
    for problem in &mut merged.problems {
        if matches!(problem.source, Origin::File(_)) && problem.hint.is_none() {
            problem.hint = Some(WRITE_ASIDE.to_owned());
        }
    }
    let Some(ConfigFile { path, write_exposure, cut, .. }) = &merged.file else { return };
    let problem = |message: String, hint: String| Problem {
        key: path.display().to_string(),
        source: Origin::File(path.clone()),
        line: None,
        message,
        hint: Some(hint),
    };
    let exposed = write_exposure.as_ref().map(|exposure| {
        problem(format!("{exposure}, so a running gateway does not load it"), exposure.remedy().to_owned())
    });
    // Where the parser finds an error, that is the sign.
    let is_parsed = !merged.problems.iter().any(|problem| problem.key == path.display().to_string());
    let cut = cut.filter(|_| is_parsed).map(|cut| {
        let hint = cut.remedy().map_or(WRITE_ASIDE.to_owned(), |remedy| format!("{remedy}; {WRITE_ASIDE}"));
        problem(cut.to_string(), hint)
    });
    merged.problems.extend(exposed.into_iter().chain(cut));
}
