//! The repository as text: every source file, and its product lines without tests and comments.
//!
//! Lines are scanned in rustfmt's layout, not parsed: a test item ends at the brace below its first character, a
//! comment begins at `//`. This is enough for rules about words and needs no parser.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The folders with sources: crates and tests.
pub(crate) const CRATES: [&str; 8] =
    ["actors", "benches", "config", "fuzz", "loadtest", "s3", "src", "tests"];
const SUFFIXES: [&str; 5] = ["rs", "py", "sh", "toml", "md"];
/// Folders that tools generate.
const GENERATED: [&str; 4] = ["target", ".venv", "node_modules", "__pycache__"];

/// One file.
pub(crate) struct Source {
    /// From the repository's root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    /// Compiled for tests only.
    pub(crate) is_test: bool,
}

/// One file of the repository by its path from the root.
pub(crate) fn read(path: &str) -> String {
    let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&whole).unwrap_or_else(|error| panic!("{path} cannot be read: {error}"))
}

/// Every source file of the repository, in order of its path.
pub(crate) fn all() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for entry in fs::read_dir(root).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if CRATES.contains(&name.as_str()) || [".ci", "docs"].contains(&name.as_str()) {
            walk(root, &name, &mut paths);
        } else if is_source(&name) || name == "Dockerfile" {
            paths.push(name);
        }
    }
    paths.sort();
    let texts: Vec<(String, String)> =
        paths.into_iter().map(|path| (read(&path), path)).map(|(t, p)| (p, t)).collect();
    let declared: BTreeSet<String> = texts.iter().flat_map(|(path, text)| test_modules(path, text)).collect();
    let source = |(path, text): (String, String)| Source {
        is_test: path.starts_with("tests/") || path.contains("/tests/") || declared.contains(&path),
        path,
        text,
    };
    texts.into_iter().map(source).collect()
}

fn walk(root: &Path, folder: &str, paths: &mut Vec<String>) {
    for entry in fs::read_dir(root.join(folder)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = format!("{folder}/{name}");
        if entry.file_type().unwrap().is_dir() {
            if !GENERATED.contains(&name.as_str()) {
                walk(root, &path, paths);
            }
        } else if is_source(&name) || folder == ".ci" {
            paths.push(path);
        }
    }
}

fn is_source(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, suffix)| SUFFIXES.contains(&suffix))
}

/// The files that this one declares as modules for tests only.
fn test_modules(path: &str, text: &str) -> Vec<String> {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let mut files = Vec::new();
    for (at, _) in lines.iter().enumerate().filter(|(_, line)| **line == "#[cfg(test)]") {
        let item = lines[at + 1..].iter().position(|line| !line.starts_with("#["));
        let Some(item) = item.map(|offset| at + 1 + offset) else { continue };
        let Some(name) = lines[item].strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')) else {
            continue;
        };
        let named =
            lines[at..item].iter().find_map(|line| line.strip_prefix("#[path = \"")?.strip_suffix("\"]"));
        let file = named.map_or_else(|| format!("{name}.rs"), str::to_owned);
        files.extend([format!("{folder}/{file}"), format!("{folder}/{name}/mod.rs")]);
    }
    files
}

impl Source {
    pub(crate) fn sample(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), is_test: false }
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// The last part of the path.
    pub(crate) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// The product lines, numbered from 1: without tests and without comments.
    pub(crate) fn code(&self) -> Vec<(usize, &str)> {
        let mut code = Vec::new();
        if self.is_test || !self.is_rust() {
            return code;
        }
        let mut lines = self.text.lines().enumerate();
        while let Some((at, line)) = lines.next() {
            if line.trim() == "#[cfg(test)]" {
                skip_item(&mut lines);
            } else {
                code.push((at + 1, without_comment(line)));
            }
        }
        code
    }
}

/// Takes an item's lines: attributes, then one line that ends with `;` or `}`, or lines up to the closing bracket below
/// the item's first character. A block ends with `}`, a list in a `use` or a constant with `};`, `];` or `);`.
fn skip_item<'a>(lines: &mut impl Iterator<Item = (usize, &'a str)>) {
    let (mut item_indent, mut is_in_attribute) = (None, false);
    for (_, line) in lines {
        let text = line.trim();
        match item_indent {
            Some(indent) if line.len() - line.trim_start().len() == indent => {
                if text == "}" || text.starts_with(['}', ']', ')', '>']) && text.ends_with(';') {
                    return;
                }
            }
            Some(_) => {}
            None if is_in_attribute || text.starts_with("#[") => is_in_attribute = !text.ends_with(']'),
            None if text.ends_with([';', '}']) => return,
            None => item_indent = Some(line.len() - line.trim_start().len()),
        }
    }
}

/// The line without its comment; `://` in a URL starts none.
pub(super) fn without_comment(line: &str) -> &str {
    let begins = |at: &usize| *at == 0 || line.as_bytes()[at - 1] != b':';
    line.match_indices("//").map(|(at, _)| at).find(begins).map_or(line, |at| &line[..at])
}

/// Product lines are found and others are skipped: otherwise the rules would check nothing.
#[test]
fn tests_and_comments_are_not_product_lines() {
    let text = "//! doc\nuse a;\n\n#[cfg(test)]\nuse b;\n#[cfg(test)]\n#[allow(x)]\nmod tests {\n    c();\n}\nd(\"http://e\"); // f\n";
    let source = Source::sample("src/x.rs", text);
    let code: Vec<_> = source.code().into_iter().filter(|(_, line)| !line.is_empty()).collect();
    assert_eq!(code, [(2, "use a;"), (11, "d(\"http://e\"); ")]);
    // The item ends at its own bracket, whatever the next item is.
    for item in [
        "use x::{\n    a,\n    b,\n};",
        "#[expect(\n    x,\n    reason = \"y\"\n)]\nuse x::a;",
        "const A: [u8; 2] = [\n    1,\n    2,\n];",
        "type A = B<\n    C,\n>;",
        "fn a(\n    b: C,\n) -> D\nwhere\n    E: F,\n{\n    g();\n}",
        "    fn a() {\n        b();\n    }",
    ] {
        let text = format!("#[cfg(test)]\n{item}\nfn product() {{\n}}\n");
        let source = Source::sample("src/x.rs", &text);
        let code: Vec<_> = source.code().into_iter().map(|(_, line)| line).collect();
        assert_eq!(code, ["fn product() {", "}"], "{item}");
    }
    let files =
        test_modules("src/a/mod.rs", "#[cfg(test)]\n#[path = \"z_tests.rs\"]\nmod tests;\nmod other;\n");
    assert_eq!(files, ["src/a/z_tests.rs", "src/a/tests/mod.rs"]);
}
