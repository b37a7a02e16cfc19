//! Replaced names and phrases do not come back.
//!
//! The code uses the terms of nginx, Envoy, HAProxy, hyper and the S3 API, and comments are plain technical English.
//! `OLD_NAMES` lists the names that were replaced, with the folder in which each had its meaning: a word may be right
//! elsewhere. `PHRASES` lists forms of riddling or personifying sentences. Strings are not checked: configuration keys,
//! metrics and log fields are a public interface.

use std::collections::{BTreeMap, BTreeSet};

use super::has_word;
use super::literals::without_literals;
use super::sources::{Source, all, without_comment};

/// A folder, a name that must not be used there, and the term instead.
const OLD_NAMES: [(&str, &str, &str); 57] = [
    ("src/", "passage", "write_bypass"),
    ("src/", "besides", "common_headers"),
    ("src/", "Sharing", "cors_headers"),
    ("src/", "Awaited", "PendingForm"),
    ("src/", "Told", "FormReply"),
    ("src/", "Unproxied", "ProxyHeaderError"),
    ("src/", "farewell", "goaway_linger"),
    ("src/", "Leave", "UpstreamGrant"),
    ("src/", "Entered", "AttemptGrant"),
    ("src/", "blame", "failure_attribution"),
    ("src/upstream/", "heard", "map_send_error"),
    ("src/", "mend", "rewrite_version"),
    ("src/", "Sight", "HeadScan"),
    ("src/", "Ongoing", "CallContext"),
    ("src/", "bell", "hedge_timer"),
    ("src/", "patient", "is_replayable"),
    ("src/", "Said", "CredentialFeedback"),
    ("src/", "Taking", "BodyPlan"),
    ("src/", "conclude", "discard_body"),
    ("src/upstream/", "Place", "SocketTarget"),
    ("src/", "Securer", "UpstreamTls"),
    ("src/", "Distrust", "CertificateRejection"),
    ("src/", "Telling", "DeadlineHeader"),
    ("src/", "Asked", "RequestInfo"),
    ("src/", "Shown", "PresentedAuth"),
    ("src/", "bearers", "token_cache"),
    ("src/", "KeyPrint", "KeyFingerprint"),
    ("src/", "chores", "background_tasks"),
    ("src/", "vitals", "actor_stats"),
    ("actors/", "vitals", "actor_stats"),
    ("actors/", "patience", "ask_timeout"),
    ("actors/", "OutOfPatience", "AskTimeout"),
    ("actors/", "likeness", "message_fingerprint"),
    ("actors/", "nursery", "spawner"),
    ("actors/", "conceive", "prepare"),
    ("actors/", "bear", "build"),
    ("actors/", "unborn", "channel"),
    ("actors/", "hands", "distribute"),
    ("actors/", "roster", "credential_selector"),
    ("actors/", "stash", "permit_cache"),
    ("actors/", "purse", "hedge_budget"),
    ("actors/", "Strike", "FailureKind"),
    ("actors/", "strike", "failure kind"),
    ("actors/", "Sentence", "EjectionAction"),
    ("actors/", "sentence", "ejection action"),
    ("actors/", "Standing", "EndpointState"),
    ("actors/", "setback", "credential error"),
    ("actors/", "Setback", "CredentialError"),
    ("actors/", "Fee", "Charge"),
    ("actors/", "drag", "mark_slow"),
    ("actors/", "duty", "obligation"),
    ("actors/", "board", "circuit snapshot"),
    ("actors/", "dice", "rng"),
    ("actors/", "mutant", "planted fault"),
    ("tests/", "farewell", "close"),
    ("tests/", "vitals", "stats"),
    ("tests/", "crumbs", "one_byte_chunks"),
];

/// Forms that no comment has.
const PHRASES: [&str; 18] = [
    "whose", "whom", "nobody", "somebody", "who say", "says", "tells", "is told", "are told", "hears",
    "knows", "wants", "believes", "let go", "lets go", "in vain", "its like", "farewell",
];
/// This file has the words themselves.
const OWN_PATH: &str = "tests/tidy/glossary.rs";

fn rust_sources() -> Vec<Source> {
    all().into_iter().filter(|source| source.is_rust() && source.path != OWN_PATH).collect()
}

/// The names in the code of a file, with their lines: identifiers, and their parts between underscores.
fn names(source: &Source) -> BTreeMap<String, BTreeSet<usize>> {
    let mut names: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for (at, line) in source.text.lines().enumerate() {
        let code = without_literals(without_comment(line));
        for identifier in code.split(|c: char| !c.is_alphanumeric() && c != '_') {
            for name in std::iter::once(identifier).chain(identifier.split('_')) {
                names.entry(name.to_owned()).or_default().insert(at + 1);
            }
        }
    }
    names
}

/// Comments as paragraphs, each with the number of its first line: a phrase may be wrapped.
fn comments(text: &str) -> Vec<(usize, String)> {
    let mut comments: Vec<(usize, String)> = Vec::new();
    let mut is_open = false;
    for (at, line) in text.lines().enumerate() {
        let comment = &line[without_comment(line).len()..];
        let words = comment.trim_start_matches(['/', '!']).trim();
        let continues = is_open && line.trim_start().starts_with("//");
        match comments.last_mut() {
            Some((_, paragraph)) if continues && !words.is_empty() => {
                paragraph.push(' ');
                paragraph.push_str(words);
            }
            _ if !words.is_empty() => comments.push((at + 1, words.to_owned())),
            _ => {}
        }
        is_open = !words.is_empty();
    }
    comments
}

/// The phrases in a comment. Code in backquotes and quoted text are not prose.
fn phrases(comment: &str) -> Vec<&'static str> {
    let without_code = comment.split('`').step_by(2).collect::<Vec<_>>().join("`");
    let prose = without_code.split('"').step_by(2).collect::<Vec<_>>().join("\"").to_lowercase();
    PHRASES.into_iter().filter(|phrase| has_word(&prose, phrase)).collect()
}

#[test]
fn replaced_names_are_not_used() {
    let mut used = BTreeSet::new();
    for source in rust_sources() {
        let names = names(&source);
        for (folder, name, term) in OLD_NAMES {
            let lines = names.get(name).filter(|_| source.path.starts_with(folder)).into_iter().flatten();
            used.extend(lines.map(|line| format!("{}:{line}: {name} -> {term}", source.path)));
        }
    }
    assert!(used.is_empty(), "{used:#?}\n-> use the term, or another name of this field");
}

#[test]
fn comments_are_plain() {
    let mut found = Vec::new();
    for source in rust_sources() {
        for (line, comment) in comments(&source.text) {
            found.extend(phrases(&comment).iter().map(|phrase| format!("{}:{line}: {phrase}", source.path)));
        }
    }
    assert!(found.is_empty(), "{found:#?}\n-> subject, verb, object: name the operation and the thing");
}

/// The scans find their samples: otherwise every file would pass.
#[test]
fn names_and_phrases_are_found() {
    let text = "let a = \"purse\"; // purse\nlet (my_purse, purses) = purse();\n";
    let names = names(&Source::sample("src/x.rs", text));
    assert_eq!(names.get("purse"), Some(&BTreeSet::from([2])));
    assert!(names.contains_key("my_purse") && names.contains_key("purses"));
    let text = "/// A\n/// b.\n///\n/// C\nfn d() {} // e\n";
    let expected = [(1, "A b."), (4, "C"), (5, "e")].map(|(line, text)| (line, text.to_owned()));
    assert_eq!(comments(text), expected);
    assert_eq!(phrases("Who says so is told, `whose`, \"whom\"."), ["who say", "says", "is told"][1..]);
    assert!(phrases("The gateway closes the connection.").is_empty());
}
