//! The layers of ARCHITECTURE.md: an import goes down, and files import each other in a circle only where a list names them.
//!
//! A module may use its own child modules by relative paths; these are no imports.

use std::collections::{BTreeMap, BTreeSet};

use crate::tidy::imports::Imports;
use crate::tidy::sources;

/// Files that import each other in a circle, with the reason.
const CYCLES: [(&[&str], &str); 11] = [
    (
        &[
            "src/auth/context.rs",
            "src/auth/regions.rs",
            "src/auth/signing_keys.rs",
            "src/auth/token_cache.rs",
        ],
        "the context refers to the caches, and a look-up in a cache takes the context",
    ),
    (
        &["src/auth/operation/headers.rs", "src/auth/operation/query.rs"],
        "a header can be a parameter of a query",
    ),
    (
        &["src/buffers/socket/mod.rs", "src/buffers/sockopt.rs"],
        "the options of a socket take the socket's direction",
    ),
    (
        &["src/buffers/transfer.rs", "src/buffers/transfers.rs"],
        "a transfer registers itself in the list of transfers",
    ),
    (
        &["src/http/bucket_list/mod.rs", "src/http/error/mod.rs"],
        "http::error maps the rejections of its own folder",
    ),
    (
        &["src/http/injection.rs", "src/http/request_validation.rs"],
        "a finding is a rejection of the validation",
    ),
    (
        &[
            "src/origin/checksum.rs",
            "src/origin/reader.rs",
            "src/origin/record.rs",
            "src/origin/upload_checksum.rs",
        ],
        "an object's record has its checksums, which are computed from the records of its parts",
    ),
    (&["src/origin/load.rs", "src/origin/store.rs"], "the store is loaded from its records"),
    (
        &["src/telemetry/log/mod.rs", "src/telemetry/log/output.rs"],
        "the error of the log is the error of its output",
    ),
    (
        &[
            "src/upstream/response/appended_errors.rs",
            "src/upstream/response/body.rs",
            "src/upstream/response/proxy_body.rs",
            "src/upstream/response/rename_plan.rs",
        ],
        "the body of a response is one of several kinds, each of which wraps the plain kind",
    ),
    (
        &["src/server/admission.rs", "src/server/worker.rs", "src/server/worker_accept.rs"],
        "a worker accepts for a listener, which counts the connections of its workers",
    ),
];

/// The position of each layer, from the list under the heading `Layers`. The names before an item's colon are one layer.
fn layers(document: &str) -> BTreeMap<String, usize> {
    let section = document.split("\n## Layers\n").nth(1).and_then(|rest| rest.split("\n## ").next());
    // The names of an item may be on two lines.
    let section = section.unwrap_or_default().replace("\n   ", " ");
    let items = section.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit()));
    let names = |(at, item): (usize, &str)| {
        let names = item.split(':').next().unwrap_or_default();
        names.split('`').skip(1).step_by(2).map(|name| (name.to_owned(), at)).collect::<Vec<_>>()
    };
    items.enumerate().flat_map(names).collect()
}

/// The layer of a file below `src/`: the longest of the listed paths that the file's path begins with, else its folder, or its own
/// name if it is in no folder.
fn layer<'a>(file: &'a str, layers: &BTreeMap<String, usize>) -> &'a str {
    let below = file.trim_start_matches("src/").trim_end_matches(".rs");
    let ends = below.match_indices('/').map(|(at, _)| at).chain([below.len()]);
    let longest = ends.rev().find(|end| layers.contains_key(&below[..*end]));
    &below[..longest.unwrap_or_else(|| below.find('/').unwrap_or(below.len()))]
}

/// The imports that do not go down: the file, and the layer that it imports.
fn upward<'a>(imports: &'a Imports, layers: &BTreeMap<String, usize>) -> BTreeSet<(&'a str, &'a str)> {
    let pairs = imports.files.iter().flat_map(|(file, used)| used.iter().map(move |used| (file, used)));
    pairs
        .map(|(file, used)| (file.as_str(), layer(file, layers), layer(used, layers)))
        .filter(|(_, own, used)| own != used && layers[*own] <= layers[*used])
        .map(|(file, _, used)| (file, used))
        .collect()
}

#[test]
fn imports_go_down() {
    let imports = Imports::of("src/", &sources::all());
    assert!(imports.unresolved.is_empty(), "paths that lead to no file: {:#?}", imports.unresolved);
    let layers = layers(&sources::read("ARCHITECTURE.md"));
    let folders: BTreeSet<&str> = imports.files.keys().map(|file| layer(file, &layers)).collect();
    assert_eq!(
        layers.keys().map(String::as_str).collect::<BTreeSet<_>>(),
        folders,
        "the list under `Layers` in ARCHITECTURE.md has each folder and each file of src/ once, and each folder of `upstream/`"
    );
    let upward: Vec<_> =
        upward(&imports, &layers).into_iter().map(|(file, used)| format!("  {file} -> {used}")).collect();
    assert!(
        upward.is_empty(),
        "imports from a lower layer to the same or a higher one (ARCHITECTURE.md, Layers):\n{}\n  -> move the item down, or pass it as an \
         argument",
        upward.join("\n")
    );
}

#[test]
fn files_import_each_other_only_as_listed() {
    let sources = sources::all();
    let cycles: BTreeSet<_> =
        ["src/", "s3/src/"].into_iter().flat_map(|root| Imports::of(root, &sources).cycles()).collect();
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
        sample("src/c.rs", "use crate::a::Z;\nuse crate::nowhere::W;\n"),
        sample("src/lib.rs", "mod a;\nmod b;\nmod c;\npub use c::Exported;\n"),
        sample("src/b/e.rs", "use crate::Exported;\n"),
    ];
    let imports = Imports::of("src/", &sources);
    assert_eq!(
        upward(&imports, &layers),
        BTreeSet::from([("src/a.rs", "b"), ("src/b/e.rs", "c"), ("src/b/mod.rs", "c")])
    );
    assert_eq!(imports.unresolved, BTreeSet::from(["src/c.rs: nowhere::W".to_owned()]));
}
