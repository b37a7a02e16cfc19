//! The JSON of a problem of the configuration.

use serde_json::{Value, json};
use tidegate_config::{Origin, Problem};

/// A problem or a warning as JSON.
pub fn problem(problem: &Problem) -> Value {
    let Problem { key, source, line, message, hint } = problem;
    json!({ "key": key, "message": message, "hint": hint, "origin": origin(source, *line) })
}

/// Where a value is set.
pub(super) fn origin(origin: &Origin, line: Option<usize>) -> Value {
    let (kind, name) = match origin {
        Origin::Default => ("default", None),
        Origin::CommandLine => ("argument", None),
        Origin::File(path) => ("file", Some(path.display().to_string())),
        Origin::Variable(name) => ("variable", Some(name.clone())),
        Origin::System => ("system", None),
    };
    json!({ "kind": kind, "name": name, "line": line })
}
