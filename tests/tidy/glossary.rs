//! Replaced names and phrases do not come back.
//!
//! The code uses the terms of nginx, Envoy, HAProxy, hyper and the S3 API, and comments are plain technical English.
//! `OLD_WORDS`, `OLD_TYPES` and `OLD_MODULES` list the names that were replaced, with the folder in which each had its
//! meaning: a word may be right elsewhere. `OTHER_SENSES` has the exceptions within these folders. `PHRASES` lists forms
//! of riddling or personifying sentences. Strings are not checked: configuration keys, metrics and log fields are a
//! public interface.

use std::collections::{BTreeMap, BTreeSet};

use super::has_word;
use super::literals::without_literals;
use super::sources::{Source, all, without_comment};

/// A folder, a word that no name there has, and the term instead. Case does not count: a name is compared by its words,
/// `hedge_timer` as `HedgeTimer`. Several words in a row are one entry, as `out_of_patience`.
const OLD_WORDS: [(&str, &str, &str); 110] = [
    ("src/", "passage", "write_bypass"),
    ("src/", "besides", "common_headers"),
    ("src/", "sharing", "cors_headers"),
    ("src/", "told", "FormReply"),
    ("src/", "unproxied", "ProxyHeaderError"),
    ("src/", "farewell", "goaway_linger"),
    ("src/", "leave", "UpstreamGrant"),
    ("src/upstream/", "entered", "AttemptGrant"),
    ("src/http/", "entered", "AttemptGrant"),
    ("src/", "blame", "failure_attribution"),
    ("src/upstream/", "heard", "map_send_error"),
    ("src/", "mend", "rewrite_version"),
    ("src/", "sight", "HeadScan"),
    ("src/", "ongoing", "CallContext"),
    ("src/", "bell", "hedge_timer"),
    ("src/", "patient", "is_replayable"),
    ("src/", "said", "CredentialFeedback"),
    ("src/", "go_on_as_other", "retry_with_other"),
    ("src/", "taking", "BodyPlan"),
    ("src/", "conclude", "discard_body"),
    ("src/upstream/", "place", "SocketTarget"),
    ("src/", "securer", "UpstreamTls"),
    ("src/", "distrust", "CertificateRejection"),
    ("src/", "telling", "DeadlineHeader"),
    ("src/", "asked", "RequestInfo"),
    ("src/auth/", "shown", "PresentedAuth"),
    ("src/", "bearers", "token_cache"),
    ("src/", "key_print", "KeyFingerprint"),
    ("src/", "chores", "background_tasks"),
    ("src/", "vitals", "actor_stats"),
    ("actors/", "vitals", "actor_stats"),
    ("actors/", "patience", "ask_timeout"),
    ("actors/", "out_of_patience", "AskTimeout"),
    ("actors/", "likeness", "message_fingerprint"),
    ("actors/", "nursery", "spawner"),
    ("actors/", "conceive", "prepare"),
    ("actors/", "bear", "build"),
    ("actors/", "unborn", "channel"),
    ("actors/", "hands", "distribute"),
    ("actors/", "roster", "credential_selector"),
    ("actors/", "stash", "permit_cache"),
    ("actors/", "purse", "hedge_budget"),
    ("actors/", "strike", "FailureKind"),
    ("actors/", "sentence", "EjectionAction"),
    ("actors/", "standing", "EndpointState"),
    ("actors/", "setback", "credential error"),
    ("actors/", "fee", "Charge"),
    ("actors/", "drag", "mark_slow"),
    ("actors/", "duty", "obligation"),
    ("actors/", "board", "circuit snapshot"),
    ("actors/", "dice", "rng"),
    ("actors/", "mutant", "planted fault"),
    ("tests/", "farewell", "close"),
    ("tests/", "vitals", "stats"),
    ("tests/", "crumbs", "one_byte_chunks"),
    ("src/", "carrier", "body writer"),
    ("src/", "settle", "authenticate_and_charge"),
    ("src/", "introduce", "authenticate"),
    ("src/", "say", "apply"),
    ("src/", "tell", "log, or write the header"),
    ("src/", "look", "check"),
    ("src/", "hear", "receive"),
    ("src/", "edge", "request_validation"),
    ("src/", "silent", "idle"),
    ("src/http/", "quiet", "idle"),
    ("src/server/", "quiet", "idle"),
    ("src/", "silence", "idle"),
    ("src/", "secure", "tls_handshake"),
    ("src/upstream/", "enter", "acquire"),
    ("src/http/", "enter", "acquire"),
    ("src/", "verdict", "outcome"),
    ("src/upstream/", "lay", "attribute"),
    ("src/upstream/", "hold", "circuit_wait"),
    ("src/upstream/", "assume", "ensure_ready"),
    ("src/upstream/", "intake", "body_plan"),
    ("src/upstream/", "flow", "upload_progress"),
    ("src/upstream/", "touch", "test_connect"),
    ("src/upstream/", "reach", "connect_any"),
    ("src/upstream/", "dial", "connect"),
    ("src/upstream/", "signs", "is_signed"),
    ("src/auth/", "signs", "is_signed"),
    ("src/http/", "signs", "is_signed"),
    ("src/auth/", "proofs", "presented_auth"),
    ("src/auth/", "recent", "ttl_cache"),
    ("s3/", "claim", "ExpectedDigest or PresentedSignature"),
    ("src/upstream/", "claim", "ExpectedDigest or PresentedSignature"),
    ("src/gateway/", "side", "admin_server"),
    ("actors/", "settle", "release"),
    ("actors/", "say", "send"),
    ("actors/", "tell", "send"),
    ("actors/", "look", "check"),
    ("actors/", "hear", "receive"),
    ("actors/", "verdict", "outcome"),
    ("actors/src/pool/", "line", "wait_queue"),
    ("actors/src/pool/", "signs", "endpoint_stats"),
    ("actors/src/pool/", "alarm", "wake_timer"),
    ("actors/", "turn", "EndpointEvent"),
    ("actors/", "serve", "MessageHandler"),
    ("actors/", "life", "Runnable"),
    ("actors/", "deal", "distribute"),
    ("actors/src/simulation/", "episode", "run"),
    ("actors/src/simulation/", "passing", "request"),
    ("actors/src/simulation/", "ending", "teardown"),
    ("actors/src/limiter/", "closed", "AuthLockout"),
    ("config/", "settle", "apply"),
    ("config/", "say", "report"),
    ("config/", "tell", "report"),
    ("config/", "look", "check"),
    ("config/", "verdict", "outcome"),
    ("tests/", "edge", "request_validation"),
];

/// Types whose word has other senses too, so that the whole name counts: folder, name, term.
const OLD_TYPES: [(&str, &str, &str); 8] = [
    ("src/http/", "Received", "AcceptedForm"),
    ("src/", "Entry", "AttemptRequest, or the item's own name"),
    ("src/", "Held", "the name of what is held"),
    ("src/", "Source", "the name of what it is the source of"),
    ("actors/", "Held", "the name of what is held"),
    ("actors/", "Source", "the name of what it is the source of"),
    ("src/", "Awaited", "PendingForm"),
    ("actors/", "Line", "WaitQueue"),
];

/// Modules that have another name: folder, file, term.
const OLD_MODULES: [(&str, &str, &str); 22] = [
    ("src/http/", "own", "local_reply"),
    ("src/upstream/", "verdict", "outcome"),
    ("src/upstream/", "reply", "response_head"),
    ("src/upstream/", "head", "head_scan"),
    ("src/upstream/", "early", "call_context"),
    ("src/upstream/", "hold", "circuit_wait"),
    ("src/upstream/", "identity", "credential_feedback"),
    ("src/upstream/", "intake", "body_plan"),
    ("src/upstream/", "flow", "upload_progress"),
    ("src/upstream/", "dial", "dialer"),
    ("src/auth/", "proofs", "presented_auth"),
    ("src/auth/", "recent", "ttl_cache"),
    ("src/gateway/", "side", "admin_server"),
    ("actors/src/pool/", "line", "wait_queue"),
    ("actors/src/pool/", "signs", "endpoint_stats"),
    ("actors/src/pool/", "rotation", "load_balancer"),
    ("actors/src/pool/", "drain", "queue_throughput"),
    ("actors/src/pool/", "alarm", "wake_timer"),
    ("actors/src/", "host", "actor_shell"),
    ("actors/src/simulation/", "episode", "run"),
    ("actors/src/simulation/", "passing", "request"),
    ("actors/src/simulation/", "ending", "teardown"),
];

/// Names with an old word in another sense, and that sense.
const OTHER_SENSES: [(&str, &str); 4] = [
    ("HALF_LIFE", "the half-life of a decaying histogram"),
    ("SecureRandom", "the trait of ring for random bytes"),
    ("serve_queue", "the pool gives free permits to the queue"),
    ("signs_as_client", "signing is SigV4's own word"),
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

/// The identifiers in the code of a file, with their lines. In a product file, its tests do not count: their names are
/// sentences.
fn identifiers(source: &Source) -> BTreeMap<String, BTreeSet<usize>> {
    let all = || source.text.lines().enumerate().map(|(at, line)| (at + 1, without_comment(line))).collect();
    let code: Vec<(usize, &str)> = if source.path.starts_with("tests/") { all() } else { source.code() };
    let mut identifiers: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for (line, code) in code {
        let code = without_literals(code);
        for identifier in
            code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|name| !name.is_empty())
        {
            identifiers.entry(identifier.to_owned()).or_default().insert(line);
        }
    }
    identifiers
}

/// The words of a name in lower case, joined by `_`: `OutOfPatience`, `out_of_patience` and `OUT_OF_PATIENCE` have the
/// same.
fn words(name: &str) -> String {
    let mut words = String::new();
    let mut previous = '_';
    for (at, c) in name.char_indices() {
        let begins_word = c.is_ascii_uppercase()
            && (previous.is_ascii_lowercase()
                || previous.is_ascii_digit()
                || name[at + 1..].starts_with(|next: char| next.is_ascii_lowercase()));
        if begins_word && !words.is_empty() && previous != '_' {
            words.push('_');
        }
        words.push(c.to_ascii_lowercase());
        previous = c;
    }
    words
}

/// Whether a name has this word, or these words in a row.
fn has_words(name: &str, sought: &str) -> bool {
    format!("_{}_", words(name)).contains(&format!("_{sought}_"))
}

/// The old words, types and modules of a source: line, name and term.
fn old_names(source: &Source) -> Vec<(usize, String, &'static str)> {
    let is_here = |folder: &str| source.path.starts_with(folder);
    let mut found = Vec::new();
    for (name, lines) in identifiers(source) {
        if OTHER_SENSES.iter().any(|(other, _)| *other == name) {
            continue;
        }
        let by_word = OLD_WORDS.iter().filter(|(folder, word, _)| is_here(folder) && has_words(&name, word));
        let by_type = OLD_TYPES.iter().filter(|(folder, old, _)| is_here(folder) && name == *old);
        for (_, _, term) in by_word.chain(by_type) {
            found.extend(lines.iter().map(|line| (*line, name.clone(), *term)));
        }
    }
    // The file or the folder directly below `folder`.
    let is_module = |folder: &str, module: &str| {
        let rest = source.path.strip_prefix(folder).and_then(|rest| rest.strip_prefix(module));
        rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
    };
    let modules = OLD_MODULES.iter().filter(|(folder, module, _)| is_module(folder, module));
    found.extend(modules.map(|(_, module, term)| (1, (*module).to_owned(), *term)));
    let by_word = OLD_WORDS.iter().filter(|(folder, word, _)| is_module(folder, word));
    found.extend(by_word.map(|(_, word, term)| (1, (*word).to_owned(), *term)));
    found
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
    let mut used = Vec::new();
    for source in rust_sources() {
        let names = old_names(&source);
        used.extend(
            names.iter().map(|(line, name, term)| format!("{}:{line}: {name} -> {term}", source.path)),
        );
    }
    assert!(used.is_empty(), "{used:#?}\n-> use the term, or another name of this field");
}

/// Each exception is in use, and would be found without its entry.
#[test]
fn names_in_other_senses_exist() {
    let known: BTreeSet<String> =
        rust_sources().iter().flat_map(|source| identifiers(source).into_keys()).collect();
    for (name, sense) in OTHER_SENSES {
        assert!(known.contains(name), "no code has {name} any more: remove the exception");
        assert!(!sense.is_empty() && OLD_WORDS.iter().any(|(_, word, _)| has_words(name, word)), "{name}");
    }
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
    let text =
        "let a = \"purse\"; // purse\nlet (my_purse, purses) = Purse::new();\n#[cfg(test)]\nfn purse() {}\n";
    let found = old_names(&Source::sample("actors/src/x.rs", text));
    let names: Vec<(usize, &str)> = found.iter().map(|(line, name, _)| (*line, name.as_str())).collect();
    assert_eq!(names, [(2, "Purse"), (2, "my_purse")]);
    assert!(old_names(&Source::sample("src/x.rs", text)).is_empty(), "the word belongs to another folder");
    for (path, count) in
        [("src/upstream/dial.rs", 2), ("src/upstream/dial/mod.rs", 2), ("src/upstream/connect/dialer.rs", 0)]
    {
        assert_eq!(old_names(&Source::sample(path, "")).len(), count, "{path}");
    }
    for name in ["out_of_patience", "OutOfPatience", "OUT_OF_PATIENCE", "isOutOfPatience"] {
        assert!(has_words(name, "out_of_patience") && has_words(name, "patience"), "{name}");
    }
    for (name, expected) in [("HTTPServer", "http_server"), ("Sha256Digest", "sha256_digest"), ("_a", "_a")] {
        assert_eq!(words(name), expected);
    }
    assert!(!has_words("claims", "claim") && !has_words("dialer", "dial"));
    let text = "/// A\n/// b.\n///\n/// C\nfn d() {} // e\n";
    let expected = [(1, "A b."), (4, "C"), (5, "e")].map(|(line, text)| (line, text.to_owned()));
    assert_eq!(comments(text), expected);
    assert_eq!(phrases("Who says so is told, `whose`, \"whom\"."), ["who say", "says", "is told"][1..]);
    assert!(phrases("The gateway closes the connection.").is_empty());
}
