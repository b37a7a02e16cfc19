//! The page of the causes, as HTML: the text of docs/causes.md at the path that the status document links to.

use std::fmt::Write as _;

use crate::degradation::codes::{CauseCode, CodeEntry};
use crate::plots::escape;

const BEFORE: &str = "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
    <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
    <title>Causes of degradation: tidegate</title>\n<link rel=\"icon\" href=\"data:,\">\n<link rel=\"stylesheet\" href=\"/page.css\">\n\
    </head>\n<body>\n<header><h1>Causes of degradation</h1><p><a href=\"/\">Back to the status</a></p></header>\n<main>\n\
    <p>Each cause in the status has one of these codes, the worst first. Alerts match the code: it is stable.</p>\n";
const AFTER: &str = "</main>\n</body>\n</html>\n";

/// The page.
pub(super) fn page() -> String {
    let mut html = BEFORE.to_owned();
    for code in CauseCode::ALL {
        section(&mut html, code.entry());
    }
    html + AFTER
}

fn section(html: &mut String, entry: &CodeEntry) {
    let CodeEntry { name, severity, scope, meaning, effect, refusals, ends_when } = entry;
    let (severity, scope) = (severity.as_str(), scope.as_str());
    let _ = write!(
        html,
        "<section class=\"card\" id=\"{name}\" aria-labelledby=\"title-{name}\">\n<h2 id=\"title-{name}\"><code>{name}</code></h2>\n<dl>\n"
    );
    let mut fact = |term: &str, text: &str| {
        let _ = writeln!(html, "<div><dt>{term}</dt><dd>{}</dd></div>", with_code(text));
    };
    fact("Severity", severity);
    fact("Scope", scope);
    fact("Meaning", meaning);
    fact("Effect", effect);
    if !refusals.is_empty() {
        fact("Refusals", &refusals.iter().map(|reason| format!("`{reason}`")).collect::<Vec<_>>().join(", "));
    }
    fact("Ends when", ends_when);
    html.push_str("</dl>\n</section>\n");
}

/// The text with the parts between backquotes as code, and without the targets of its links: they are pages of the repository.
fn with_code(text: &str) -> String {
    let text = unlinked(text);
    let part = |(at, part): (usize, &str)| {
        if at % 2 == 1 { format!("<code>{}</code>", escape(part)) } else { escape(part) }
    };
    text.split('`').enumerate().map(part).collect()
}

fn unlinked(text: &str) -> String {
    let (mut rest, mut plain) = (text, String::new());
    while let Some((before, name, after)) = first_link(rest) {
        plain += before;
        plain += name;
        rest = after;
    }
    plain + rest
}

/// The text before the first link, its name, and the text after it.
fn first_link(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once('[')?;
    let (name, rest) = rest.split_once("](")?;
    let (_, after) = rest.split_once(')')?;
    Some((before, name, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// X7: the page has no markup of the documents in its texts
    #[test]
    fn texts_have_no_markup() {
        let text = "the [actions](status.md#actions) of `warning` & `critical`";
        assert_eq!(with_code(text), "the actions of <code>warning</code> &amp; <code>critical</code>");
        let html = page();
        assert!(!html.contains('`') && !html.contains("]("), "{html}");
    }
}
