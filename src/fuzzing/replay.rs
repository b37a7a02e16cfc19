//! Replays the corpora of `fuzz/corpus/` on the stable toolchain.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::TARGETS;

/// The maximum number of files in a corpus; more make the tests slow.
const FILES_MAX: usize = 200;
/// The maximum size of a corpus in bytes.
const CORPUS_BYTES_MAX: usize = 1 << 20;
/// The number of mutated inputs for each file.
const MUTATIONS: u64 = 20;

fn folder(inside: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(inside)
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = folder("corpus").join(target);
    let files: Vec<_> =
        names(&folder).into_iter().map(|name| (name.clone(), fs::read(folder.join(name)).unwrap())).collect();
    let bytes: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    assert!((5..FILES_MAX).contains(&files.len()), "{target} has {} files", files.len());
    assert!(bytes < CORPUS_BYTES_MAX, "{target} has {bytes} bytes");
    files
}

/// A1, A3, A5, L3, V8: every input of the corpora has every property of its target
#[test]
fn the_corpora_replay() {
    for (name, target) in TARGETS {
        for (file, bytes) in corpus(name) {
            let replayed = std::panic::catch_unwind(|| target(&bytes));
            assert!(replayed.is_ok(), "fuzz/corpus/{name}/{file} violates a property of the target");
        }
    }
}

/// The same for mutated inputs: a byte changed, a part removed, repeated, or copied from another file
#[test]
fn inputs_near_the_corpora_keep_the_properties() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % below.max(1)
    };
    for (name, target) in TARGETS {
        let files = corpus(name);
        for (file, bytes) in &files {
            for round in 0..MUTATIONS {
                let mut bytes = bytes.clone();
                let (at, until) = (random(bytes.len() + 1), random(bytes.len() + 1));
                let (from, to) = (at.min(until), at.max(until).min(at.min(until) + 64));
                match random(5) {
                    0 => drop(bytes.drain(from..to)),
                    1 => bytes.extend_from_within(from..to),
                    2 => bytes.insert(at, u8::try_from(random(256)).unwrap()),
                    3 => {
                        let other = &files[random(files.len())].1;
                        let from = random(other.len() + 1);
                        let part = other[from..other.len().min(from + 64)].to_vec();
                        bytes.splice(at..at, part).for_each(drop);
                    }
                    _ if at < bytes.len() => bytes[at] = u8::try_from(random(256)).unwrap(),
                    _ => bytes.truncate(at),
                }
                let result = std::panic::catch_unwind(|| target(&bytes));
                assert!(result.is_ok(), "round {round} of fuzz/corpus/{name}/{file}: {bytes:?}");
            }
        }
    }
}

/// Each target has a program, a corpus and an entry in the manifest, and there are no others
#[test]
fn every_target_has_a_program_and_a_corpus() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&folder("corpus")), targets);
    let programs: BTreeSet<String> =
        names(&folder("fuzz_targets")).iter().map(|name| name.trim_end_matches(".rs").to_owned()).collect();
    assert_eq!(programs, targets);
    let manifest = fs::read_to_string(folder("Cargo.toml")).unwrap();
    for name in targets {
        assert!(
            manifest.contains(&format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"")),
            "{name}"
        );
    }
}
