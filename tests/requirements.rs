//! The ledger of requirements: for each ID of `docs/requirements.md`, whether tests show its whole sentence.
//!
//! A requirement is `Met` when a test that can fail has its ID and drives the built binary or the real state machine. A
//! test lists IDs at the head of its doc comment (`/// S2, S5: …`; in Python at the head of its docstring) and nowhere
//! else. Function names do not count: `s3_…` is the protocol and not the third requirement of supervision. `Later`
//! states the missing part. Tests may list such IDs too, for the finished part.

use std::collections::{BTreeMap, BTreeSet};

use crate::requirement_ids::{Test, tests};
use crate::requirement_sentences::DIGESTS;
use crate::support::client::sha256;
use crate::tidy::sources;

/// The state of a requirement.
#[derive(Clone, Copy)]
enum State {
    /// Tests show it.
    Met,
    /// Not yet, or not completely: the missing part.
    Later(&'static str),
}
use State::{Later, Met};

/// The number of `Later` requirements. It may only fall; it rises if an entry turns out to cover less than its whole
/// sentence.
const LATER: usize = 38;

const LEDGER: [(&str, State); 132] = [
    ("S1", Met),
    ("S2", Met),
    ("S3", Met),
    ("S4", Met),
    ("S5", Met),
    (
        "S6",
        Later(
            "message types with one fingerprint are never refused, as `pool.acquire`: that would refuse the whole type",
        ),
    ),
    ("S7", Met),
    ("S8", Met),
    ("S9", Met),
    ("S10", Met),
    ("T1", Met),
    ("T2", Met),
    ("T3", Met),
    ("T4", Met),
    ("T5", Met),
    ("T6", Met),
    ("T7", Met),
    ("R1", Met),
    ("R2", Met),
    ("R3", Met),
    ("R4", Met),
    ("R5", Met),
    ("R6", Met),
    ("R7", Met),
    ("V1", Met),
    ("V2", Met),
    ("V3", Met),
    ("V4", Met),
    ("V5", Met),
    ("V6", Later("no guard yet")),
    ("V7", Met),
    ("V8", Met),
    ("V9", Met),
    ("V10", Met),
    ("V11", Met),
    ("V12", Met),
    ("V13", Met),
    ("X1", Met),
    ("X2", Later("there are no cache fills to switch off: there is no cache")),
    ("X3", Met),
    ("X4", Met),
    ("X5", Met),
    (
        "X6",
        Later(
            "the heaviest client loses its excess first while requests wait; that the cursor rises with memory and descriptors between \
             `critical` and `exhausted` is shown on the state machine, not on the binary",
        ),
    ),
    ("X7", Met),
    ("X8", Later("a limit of descriptors below what an idle process has open")),
    ("X9", Met),
    ("X10", Later("circuits share the counts of their bucket")),
    ("X11", Met),
    ("X12", Met),
    ("P1", Met),
    ("P2", Met),
    ("P3", Met),
    ("P4", Met),
    ("P5", Met),
    ("P6", Later("a million clients are shown on the state machine of the limiter, not on the binary")),
    ("P7", Met),
    ("P8", Met),
    ("P9", Met),
    ("B1", Met),
    ("B2", Met),
    ("B3", Met),
    ("B4", Met),
    ("B5", Met),
    (
        "L1",
        Later("the calls of `GET /` to the store of a section are not charged to the limit of that section"),
    ),
    ("L2", Met),
    ("L3", Met),
    ("L4", Met),
    ("L5", Met),
    ("L6", Met),
    ("L7", Later("not begun")),
    ("L8", Met),
    ("L9", Later("not begun")),
    ("L10", Later("not begun")),
    ("A1", Met),
    ("A2", Met),
    ("A3", Met),
    ("A4", Met),
    ("A5", Met),
    ("A6", Met),
    ("A7", Met),
    ("A8", Met),
    (
        "A9",
        Later(
            "a bare 400 or 431 that the connection's parser writes before there is a request has no \
             `x-amz-bucket-region`, also if the method is HEAD",
        ),
    ),
    ("A10", Later("not begun")),
    ("A11", Later("not begun")),
    ("C1", Met),
    ("C2", Later("not begun")),
    ("C3", Met),
    ("C4", Later("not shown for every surface")),
    (
        "C5",
        Later(
            "not overwritten in memory: the key of a chain of chunk signatures (`SignatureChain`), and copies of derived \
             keys on the stack and in the states of HMAC and SHA-256",
        ),
    ),
    ("E1", Met),
    ("E2", Later("errors inside a 200 are counted, not mapped")),
    ("E3", Met),
    ("E4", Met),
    (
        "E5",
        Later("501 is shown for the embedded origin, SigV2, SigV4A and form fields, not for every operation"),
    ),
    ("E6", Later("shown for lists of buckets and error documents, not for every buffered answer")),
    ("E7", Later("not measured")),
    ("H1", Later("PATCH and other methods than GET, HEAD, PUT, POST and DELETE are refused with 405")),
    ("H2", Later("no upgrades")),
    ("H3", Later("not begun")),
    ("H4", Met),
    ("H5", Later("not begun")),
    ("H6", Later("not begun")),
    ("H7", Later("not begun")),
    ("I1", Met),
    ("I2", Met),
    ("O1", Met),
    ("O2", Later("no phases for DNS and connect")),
    ("O3", Met),
    ("O4", Met),
    ("O5", Met),
    ("O6", Met),
    ("O7", Met),
    ("O8", Later("not begun")),
    ("O9", Later("not begun")),
    ("O10", Met),
    ("G1", Met),
    ("G2", Met),
    ("G3", Later("1,000 reloads under load lose nothing, at half of the rate, and memory grows by 2.7 MiB")),
    ("G4", Met),
    ("G5", Later("image and units of systemd only")),
    ("G6", Met),
    ("G7", Later("not begun")),
    ("G8", Met),
    ("G9", Met),
    ("G10", Met),
    ("G11", Met),
    ("G12", Met),
    ("M1", Later("a load test, run by hand")),
    ("M2", Later("a load test: loadtest run idle-reloads")),
    ("M3", Later("the memory is a load test, run by hand")),
    ("M4", Later("not begun")),
    (
        "M5",
        Later(
            "each kind by itself, and in a small container a frozen store with a full log disk; not all at random",
        ),
    ),
];

/// ID and sentence of each requirement of `docs/requirements.md`.
fn promised() -> Vec<(String, String)> {
    entries(&sources::read("docs/requirements.md"))
}

/// ID and text of each list item `- **ID** text`, with the lines that continue it.
fn entries(page: &str) -> Vec<(String, String)> {
    let mut entries: Vec<(String, String)> = Vec::new();
    let mut is_open = false;
    for line in page.lines() {
        if let Some((id, text)) = line.strip_prefix("- **").and_then(|rest| rest.split_once("** ")) {
            entries.push((id.to_owned(), text.to_owned()));
            is_open = true;
        } else if let (true, Some(more), Some((_, text))) =
            (is_open, line.strip_prefix("  "), entries.last_mut())
        {
            text.push(' ');
            text.push_str(more);
        } else {
            is_open = false;
        }
    }
    entries
}

/// Each requirement of the page is in the ledger, in the order of the page, once.
#[test]
fn the_ledger_is_complete() {
    let promised = promised();
    let ids: Vec<&str> = promised.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(LEDGER.map(|(id, _)| id).to_vec(), ids, "docs/requirements.md and the ledger differ");
    for (id, text) in &promised {
        assert!(text.len() > 15 && text.ends_with(['.', ')']), "{id} has no whole sentence: {text}");
    }
    for (id, state) in LEDGER {
        assert!(!matches!(state, Later("")), "{id} is later: name what is missing");
    }
}

/// ID and digest of each sentence, as in `DIGESTS`.
fn digests(sentences: &[(String, String)]) -> Vec<(&str, String)> {
    let digest = |text: &str| sha256(text.as_bytes())[..16].to_owned();
    sentences.iter().map(|(id, text)| (id.as_str(), digest(text))).collect()
}

/// No promised sentence was changed on the page alone.
#[test]
fn the_promised_sentences_are_unchanged() {
    let promised = promised();
    let digests = digests(&promised);
    let pinned = DIGESTS.map(|(id, digest)| (id, digest.to_owned()));
    let changed: Vec<_> = digests.iter().filter(|sentence| !pinned.contains(sentence)).collect();
    assert!(
        changed.is_empty() && digests.len() == pinned.len(),
        "sentences that tests/requirement_sentences.rs has otherwise: {changed:#?}\n\
         -> put the promised sentence back; if the promise itself has changed, write its digest there"
    );
}

/// The digest is that of the whole sentence.
#[test]
fn a_shortened_sentence_has_another_digest() {
    let page = entries("- **S1** One\n  more line.\n- **S2** One.\n");
    let digest = |text: &str| sha256(text.as_bytes())[..16].to_owned();
    assert_eq!(digests(&page), [("S1", digest("One more line.")), ("S2", digest("One."))]);
    assert_ne!(digest("One more line."), digest("One."));
}

/// The numbers of a group have no gap, neither on the page nor in the ledger.
#[test]
fn the_ids_of_a_group_are_consecutive() {
    let mut expected = ("", 0);
    for (id, _) in LEDGER {
        let (letter, number) = id.split_at(1);
        expected = if letter == expected.0 { (letter, expected.1 + 1) } else { (letter, 1) };
        assert_eq!(number, expected.1.to_string(), "{id}");
    }
}

#[test]
fn the_list_of_later_only_shrinks() {
    let later = LEDGER.iter().filter(|(_, state)| matches!(state, Later(_))).count();
    assert_eq!(
        later, LATER,
        "if fewer requirements are later, lower the number; more are allowed with a reason"
    );
}

#[test]
fn every_met_requirement_has_a_test_that_names_it() {
    let tests = tests();
    let named: BTreeSet<&str> = tests.iter().flat_map(|test| &test.ids).map(String::as_str).collect();
    let is_met = |id: &str| LEDGER.iter().any(|(of, state)| *of == id && matches!(state, Met));
    let without: Vec<String> = promised()
        .into_iter()
        .filter(|(id, _)| is_met(id) && !named.contains(id.as_str()))
        .map(|(id, text)| format!("  {id}: {text}"))
        .collect();
    assert!(
        without.is_empty(),
        "no test names these at the head of its doc comment:\n{}\n\
         -> write the test, or set the ledger's entry to `Later` with what is missing",
        without.join("\n")
    );
}

#[test]
fn tests_name_only_requirements_that_exist_and_only_at_the_head() {
    let known: BTreeSet<&str> = LEDGER.iter().map(|(id, _)| *id).collect();
    let mut wrong = BTreeMap::new();
    for Test { place, ids, stray } in tests() {
        let unknown = ids.into_iter().filter(|id| !known.contains(id.as_str()));
        let all: Vec<String> = unknown.chain(stray).collect();
        if !all.is_empty() {
            wrong.insert(place, all);
        }
    }
    assert!(
        wrong.is_empty(),
        "{wrong:#?}\n-> name requirements of the ledger, as `/// S2, S5: what it shows`, and none further on in the text"
    );
}

/// A sentence is parsed with its continuation lines, and ends at the next item.
#[test]
fn sentences_are_parsed_whole() {
    let page = "# R\n\n- **S1** One\n  more line.\n- **S2** Two.\n\n  no part of it\n\n## T\n";
    let expected =
        [("S1", "One more line."), ("S2", "Two.")].map(|(id, text)| (id.to_owned(), text.to_owned()));
    assert_eq!(entries(page), expected);
}
