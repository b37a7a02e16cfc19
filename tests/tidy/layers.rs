//! The layers of ARCHITECTURE.md: an import goes down, and files import each other in a circle only where a list names them.

use std::collections::{BTreeMap, BTreeSet};

use crate::tidy::imports::Imports;
use crate::tidy::sources;

/// Imports that go up: the file, the folder or file of the upper layer, and the reason.
const EXCEPTIONS: [(&str, &str, &str); 0] = [];

/// Files that import each other in a circle, with the reason.
const CYCLES: [(&[&str], &str); 0] = [];

/// The position of each layer, from the list under the heading `Layers`. The names before an item's colon are one layer.
fn layers(document: &str) -> BTreeMap<String, usize> {
    let section = document.split("\n## Layers\n").nth(1).and_then(|rest| rest.split("\n## ").next());
    let items =
        section.unwrap_or_default().lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit()));
    let names = |(at, item): (usize, &str)| {
        let names = item.split(':').next().unwrap_or_default();
        names.split('`').skip(1).step_by(2).map(|name| (name.to_owned(), at)).collect::<Vec<_>>()
    };
    items.enumerate().flat_map(names).collect()
}

/// The folder of a file below `src/`, or the file's own name if it is in no folder.
fn folder(file: &str) -> &str {
    let below = file.trim_start_matches("src/");
    below.split(['/', '.']).next().unwrap_or_default()
}

/// The imports from one folder to another: the file, and the other folder.
fn arrows(imports: &Imports) -> BTreeSet<(&str, &str)> {
    let pairs = imports.files.iter().flat_map(|(file, used)| used.iter().map(move |used| (file, used)));
    pairs
        .map(|(file, used)| (file.as_str(), folder(used)))
        .filter(|(file, used)| folder(file) != *used)
        .collect()
}

/// The imports that do not go down.
fn upward<'a>(imports: &'a Imports, layers: &BTreeMap<String, usize>) -> BTreeSet<(&'a str, &'a str)> {
    arrows(imports).into_iter().filter(|(file, used)| layers[folder(file)] <= layers[*used]).collect()
}

#[test]
fn imports_go_down() {
    let imports = Imports::of("src/", &sources::all());
    let layers = layers(&sources::read("ARCHITECTURE.md"));
    let folders: BTreeSet<&str> = imports.files.keys().map(|file| folder(file)).collect();
    assert_eq!(
        layers.keys().map(String::as_str).collect::<BTreeSet<_>>(),
        folders,
        "the list under `Layers` in ARCHITECTURE.md has each folder and each file of src/ once"
    );
    let upward = upward(&imports, &layers);
    let excepted: BTreeSet<_> = EXCEPTIONS.iter().map(|(file, used, _)| (*file, *used)).collect();
    let new: Vec<_> =
        upward.difference(&excepted).map(|(file, used)| format!("  {file} -> {used}")).collect();
    assert!(
        new.is_empty(),
        "imports from a lower layer to the same or a higher one (ARCHITECTURE.md, Layers):\n{}\n  -> move the item down, or pass it as an \
         argument",
        new.join("\n")
    );
    let stale: Vec<_> = excepted.difference(&upward).collect();
    assert!(stale.is_empty(), "these exceptions are not needed any more, remove them: {stale:?}");
}

#[test]
fn files_import_each_other_only_as_listed() {
    let cycles = Imports::of("src/", &sources::all()).cycles();
    let listed: BTreeSet<Vec<String>> = CYCLES
        .iter()
        .map(|(files, _)| {
            files.iter().map(|file| (*file).to_owned()).collect::<BTreeSet<_>>().into_iter().collect()
        })
        .collect();
    let new: Vec<_> = cycles.difference(&listed).map(|files| files.join("\n  ")).collect();
    assert!(
        new.is_empty(),
        "cycles of files:\n  {}\n  -> move what both need to a third file",
        new.join("\n\n  ")
    );
    let stale: Vec<_> = listed.difference(&cycles).collect();
    assert!(stale.is_empty(), "these cycles are gone or have fewer files, change the list: {stale:?}");
}

/// An import of the same or a higher layer is found, one of a lower layer is not.
#[test]
fn an_import_upwards_is_found() {
    let layers = layers("# A\n\n## Layers\n\n1. `a`, `b`: x\n2. `c`: `y`\n\n## B\n\n1. `d`: z\n");
    assert_eq!(layers.len(), 3, "{layers:?}");
    let sample = |path, text| sources::Source::sample(path, text);
    let sources = [
        sample("src/a.rs", "use crate::b::X;\n"),
        sample("src/b/mod.rs", "use crate::c::Y;\n"),
        sample("src/c.rs", "use crate::a::Z;\n"),
    ];
    let imports = Imports::of("src/", &sources);
    assert_eq!(upward(&imports, &layers), BTreeSet::from([("src/a.rs", "b"), ("src/b/mod.rs", "c")]));
}
