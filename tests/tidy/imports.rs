//! The imports of a crate's files, read from the sources.
//!
//! A path begins with `crate::` or `super::`, in a `use` or in code. Its tree of braces is expanded, and each path resolves to the file
//! that defines its item: a module's re-exports of its child modules are followed. Tests and comments are no part of it.

use std::collections::{BTreeMap, BTreeSet};

use crate::tidy::sources::Source;

/// A path without its root: `["auth", "policy", "allows"]`.
type Path = Vec<String>;

/// The files of one crate, and which file imports which.
pub(super) struct Imports {
    /// The file of each module, by the module's path.
    modules: BTreeMap<Path, String>,
    /// For each module, its re-exports: the name, and the path that has the item.
    exports: BTreeMap<Path, BTreeMap<String, Path>>,
    /// For each file, the files that it imports.
    pub(super) files: BTreeMap<String, BTreeSet<String>>,
    /// Paths that lead to no file.
    pub(super) unresolved: BTreeSet<String>,
}

impl Imports {
    /// Reads the imports of the crate with its sources in `root`, such as `src/`.
    pub(super) fn of(root: &str, sources: &[Source]) -> Self {
        let is_product = |source: &&Source| {
            source.path.starts_with(root) && source.is_rust() && !source.is_test && !is_entry(root, source)
        };
        let library = sources.iter().find(|source| is_entry(root, source));
        let sources: Vec<(Path, &Source)> =
            sources.iter().filter(is_product).map(|source| (module(root, &source.path), source)).collect();
        let modules = sources.iter().map(|(path, source)| (path.clone(), source.path.clone())).collect();
        let mut exported: BTreeMap<_, _> =
            sources.iter().map(|(path, source)| (path.clone(), exports(path, source))).collect();
        if let Some(library) = library {
            exported.insert(Path::new(), exports(&Path::new(), library));
        }
        let mut imports =
            Self { modules, exports: exported, files: BTreeMap::new(), unresolved: BTreeSet::new() };
        for (path, source) in &sources {
            let mut files = BTreeSet::new();
            for used in uses(path, source) {
                match imports.resolve(used.clone()) {
                    Some(file) if *file == source.path => {}
                    Some(file) => drop(files.insert(file.clone())),
                    None => {
                        imports.unresolved.insert(format!("{}: {}", source.path, used.join("::")));
                    }
                }
            }
            imports.files.insert(source.path.clone(), files);
        }
        imports
    }

    /// The file that defines the item of a path.
    fn resolve(&self, mut path: Path) -> Option<&String> {
        // An item is re-exported a few times at most.
        for _ in 0..8 {
            let is_known = |length: &usize| self.modules.contains_key(&path[..*length]);
            // The library's root has no file of its own: it only exports.
            let known = (0..=path.len()).rev().find(is_known).unwrap_or(0);
            let module = path[..known].to_vec();
            let exported = path.get(known).and_then(|name| self.exports.get(&module)?.get(name));
            match exported {
                Some(source) if *source != path => path.splice(..=known, source.clone()).for_each(drop),
                _ => return self.modules.get(&module),
            }
        }
        None
    }

    /// The sets of files that import each other, directly or through others.
    pub(super) fn cycles(&self) -> BTreeSet<Vec<String>> {
        let reached: BTreeMap<&String, BTreeSet<&String>> =
            self.files.keys().map(|file| (file, self.reached_from(file))).collect();
        let in_cycle = |file: &&String| reached[file].contains(file);
        let cycle_of = |file: &String| {
            let others = reached[file].iter().filter(|other| reached[**other].contains(file));
            others.map(|file| (*file).clone()).collect()
        };
        self.files.keys().filter(in_cycle).map(cycle_of).collect()
    }

    fn reached_from(&self, file: &String) -> BTreeSet<&String> {
        let mut reached = BTreeSet::new();
        let mut next: Vec<&String> = self.files[file].iter().collect();
        while let Some(file) = next.pop() {
            if reached.insert(file) {
                next.extend(&self.files[file]);
            }
        }
        reached
    }
}

/// Whether this is the root of the library, which only declares and exports.
fn is_entry(root: &str, source: &Source) -> bool {
    source.path == format!("{root}lib.rs")
}

/// The path of the module in a file.
fn module(root: &str, file: &str) -> Path {
    let name = file.trim_start_matches(root).trim_end_matches(".rs").trim_end_matches("/mod");
    name.split('/').map(str::to_owned).collect()
}

/// The product code of a source as one text.
fn code(source: &Source) -> String {
    source.code().into_iter().map(|(_, line)| format!("{line}\n")).collect()
}

/// The paths that the source of the module `own` uses.
fn uses(own: &Path, source: &Source) -> Vec<Path> {
    let code = code(source);
    let mut found = Vec::new();
    for root in ["crate::", "super::"] {
        for (at, _) in code.match_indices(root).filter(|(at, _)| begins_path(&code[..*at])) {
            let mut used = Vec::new();
            expand(&mut Vec::new(), &mut &code[at..], &mut used);
            found.extend(used.iter().filter_map(|path| absolute(own, path)));
        }
    }
    found
}

/// The names that a module re-exports from its child modules, with the paths of their items.
fn exports(own: &Path, source: &Source) -> BTreeMap<String, Path> {
    let code = code(source);
    let mut found = BTreeMap::new();
    for (at, root) in ["use ", "pub(crate) use ", "pub use "].iter().flat_map(|root| code.match_indices(root))
    {
        let mut used = Vec::new();
        expand(&mut Vec::new(), &mut &code[at + root.len()..], &mut used);
        let is_child = |path: &Path| path.first().is_some_and(|name| code.contains(&format!("mod {name};")));
        let of_child = used.into_iter().filter(is_child);
        found.extend(of_child.filter_map(|path| Some((path.last()?.clone(), [own.clone(), path].concat()))));
    }
    found
}

/// Whether a path can begin after this text: it is no part of a longer path or name.
fn begins_path(before: &str) -> bool {
    !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
}

/// A path without `crate` or `super`, and without `self` at its end.
fn absolute(own: &Path, path: &Path) -> Option<Path> {
    let supers = path.iter().take_while(|part| *part == "super").count();
    let mut whole = match path.first()?.as_str() {
        "crate" => path[1..].to_vec(),
        _ => [&own[..own.len().checked_sub(supers)?], &path[supers..]].concat(),
    };
    whole.retain(|part| part != "self");
    Some(whole)
}

/// Expands the tree of a `use` at the beginning of `rest` into its paths, and moves `rest` behind it.
fn expand(prefix: &mut Path, rest: &mut &str, found: &mut Vec<Path>) {
    let depth = prefix.len();
    loop {
        *rest = rest.trim_start();
        if let Some(inner) = rest.strip_prefix('{') {
            *rest = inner;
            while !rest.trim_start().starts_with('}') && !rest.is_empty() {
                let before = rest.len();
                expand(prefix, rest, found);
                *rest = rest.trim_start().trim_start_matches(',');
                if rest.len() == before {
                    // Not a tree: text that only looks like a `use`.
                    *rest = "";
                }
            }
            *rest = rest.trim_start().strip_prefix('}').unwrap_or_default();
            break;
        }
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        if name.is_empty() {
            // A glob or a generic argument: the path has its prefix.
            *rest = rest.strip_prefix('*').unwrap_or(rest);
            found.push(prefix.clone());
            break;
        }
        prefix.push(name.to_owned());
        match after.strip_prefix("::") {
            Some(after) => *rest = after,
            None => {
                let renamed = after.strip_prefix(" as ").map(str::trim_start);
                let end =
                    |text: &str| text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
                *rest = renamed.map_or(after, |name| &name[end(name)..]);
                found.push(prefix.clone());
                break;
            }
        }
    }
    prefix.truncate(depth);
}

/// Trees, renames, inline paths and re-exports resolve to the files of their items; tests and comments do not count.
#[test]
fn imports_resolve_to_files() {
    let sample = |path, text| Source::sample(path, text);
    let a = "//! crate::c\nuse crate::b::{self, inner::{One, Two as Other}, Re};\n#[cfg(test)]\nuse crate::c::X;\nfn f() { crate::d::call::<u8>(); }\n";
    let sources = [
        sample("src/lib.rs", "mod a;\nuse crate::a;\n"),
        sample("src/a.rs", a),
        sample("src/b/mod.rs", "mod inner;\nmod re;\npub(crate) use re::{Re, More};\n"),
        sample("src/b/inner.rs", "use super::super::d::X;\nuse super::More;\n"),
        sample("src/b/re.rs", "use crate::a::*;\n"),
        sample("src/c.rs", "pub(crate) use std::io;\n"),
        sample("src/d.rs", "// crate::a\n"),
    ];
    let imports = Imports::of("src/", &sources);
    let of = |file: &str| imports.files[file].iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(of("src/a.rs"), ["src/b/inner.rs", "src/b/mod.rs", "src/b/re.rs", "src/d.rs"]);
    assert_eq!(of("src/b/inner.rs"), ["src/b/re.rs", "src/d.rs"]);
    assert_eq!((of("src/b/re.rs"), of("src/d.rs")), (vec!["src/a.rs"], vec![]));
    let cycle = ["src/a.rs", "src/b/inner.rs", "src/b/re.rs"].map(str::to_owned).to_vec();
    assert_eq!(imports.cycles(), BTreeSet::from([cycle]));
}
