//! The requirement IDs of each test: at the head of the doc comment in Rust, of the docstring in Python.

use crate::tidy::sources::{self, Source};

/// A test and the IDs in its doc comment.
pub(crate) struct Test {
    pub(crate) place: String,
    pub(crate) ids: Vec<String>,
    /// Words like IDs in a place where they do not count.
    pub(crate) stray: Vec<String>,
}

/// Every test of the repository that has a doc comment.
pub(crate) fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for source in sources::all() {
        let docs = if source.is_rust() { rust_docs(&source) } else { python_docs(&source) };
        for (name, doc) in docs {
            let (ids, rest) = split_ids(&doc);
            let stray = words(rest).filter(|word| is_id(word) && *word != "S3").map(str::to_owned).collect();
            tests.push(Test { place: format!("{} {name}", source.path), ids, stray });
        }
    }
    tests
}

/// Name and doc comment of each test function.
fn rust_docs(source: &Source) -> Vec<(String, String)> {
    let mut docs = Vec::new();
    let (mut doc, mut is_test) = (Vec::new(), false);
    for line in source.text.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            doc.push(text.trim());
        } else if line.starts_with("#[") {
            let path = line.trim_start_matches("#[").split(['(', ']']).next().unwrap_or_default();
            is_test |= path == "test" || path.ends_with("::test");
        } else {
            let name = line.split("fn ").nth(1).and_then(|rest| rest.split(['(', '<']).next());
            if let (true, Some(name)) = (is_test, name) {
                docs.push((name.to_owned(), doc.join(" ")));
            }
            (doc, is_test) = (Vec::new(), false);
        }
    }
    docs
}

/// Name and docstring of each test function.
fn python_docs(source: &Source) -> Vec<(String, String)> {
    let mut docs = Vec::new();
    if !source.path.ends_with(".py") {
        return docs;
    }
    for test in source.text.split("\ndef test_").skip(1) {
        let name = test.split('(').next().unwrap_or_default();
        let doc = test.split_once(":\n    \"\"\"").and_then(|(_, rest)| rest.split("\"\"\"").next());
        docs.push((format!("test_{name}"), doc.unwrap_or_default().to_owned()));
    }
    docs
}

/// The IDs at the head of a doc comment, and the rest of it.
fn split_ids(doc: &str) -> (Vec<String>, &str) {
    let (mut ids, mut rest) = (Vec::new(), doc);
    loop {
        let end = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if !is_id(word) || after.starts_with(' ') {
            return (ids, rest);
        }
        ids.push(word.to_owned());
        match after.strip_prefix(", ") {
            Some(more) => rest = more,
            None => return (ids, after),
        }
    }
}

/// A capital letter and one or two digits.
fn is_id(word: &str) -> bool {
    let mut characters = word.chars();
    let letter = characters.next().is_some_and(|c| c.is_ascii_uppercase());
    letter && (1..=2).contains(&characters.clone().count()) && characters.all(|c| c.is_ascii_digit())
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric())
}

/// The scan of doc comments works: otherwise every requirement would count as met, or none.
#[test]
fn ids_are_parsed_at_the_head_of_a_doc_comment() {
    assert_eq!(split_ids("S2, S5: a crash"), (vec!["S2".to_owned(), "S5".to_owned()], ": a crash"));
    assert_eq!(split_ids("V5"), (vec!["V5".to_owned()], ""));
    assert_eq!(split_ids("M3, as far as it goes"), (vec!["M3".to_owned()], "as far as it goes"));
    assert_eq!(split_ids("S3 answers in XML").0, Vec::<String>::new());
    let rust = "/// B1: x\n#[tokio::test]\nasync fn opens() {\n}\n/// B2\nfn not_a_test() {}\n#[test]\nfn undocumented() {}\n";
    let found = rust_docs(&Source::sample("tests/x.rs", rust));
    assert_eq!(found, [("opens".to_owned(), "B1: x".to_owned()), ("undocumented".to_owned(), String::new())]);
    let python = "import a\n\n\ndef test_keys(a):\n    \"\"\"V5, V4: keys.\"\"\"\n    pass\n";
    assert_eq!(
        python_docs(&Source::sample("x.py", python)),
        [("test_keys".to_owned(), "V5, V4: keys.".to_owned())]
    );
}
