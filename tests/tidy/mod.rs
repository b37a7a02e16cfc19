//! The invariants of ARCHITECTURE.md that can be checked in the source text.
//!
//! A rule is data: a statement, a remedy, a check, and an example that violates it, so that a check without any effect
//! fails too. Types, visibility and function length are checked by the compiler and clippy; layout is rustfmt's.

mod cause_tests;
pub(crate) mod documented_words;
mod documents;
mod glossary;
mod imports;
mod layers;
mod literals;
mod markdown;
mod paths;
pub(crate) mod sources;

use sources::Source;

/// The violating lines of a source, numbered from 1.
type Lines = Vec<usize>;

struct Rule {
    statement: &'static str,
    /// What to do about a violation.
    remedy: &'static str,
    violations: fn(&Source) -> Lines,
    /// Path and text of a violating source.
    example: (&'static str, &'static str),
}

const RULES: [Rule; 13] = [
    Rule {
        statement: "only src/http/error/ names status codes",
        remedy: "give the cause a variant in its own error enum and its status in src/http/error/",
        violations: status_codes,
        example: ("src/http/request_validation.rs", "HttpResponse::BadRequest()"),
    },
    Rule {
        statement: "only actors/src/system.rs starts actors",
        remedy: "add a field to `Actors` and its start to system.rs",
        violations: |source| {
            let allowed = ["actors/src/system.rs", "actors/src/supervisor.rs"];
            code(source, &allowed, |line| {
                calls(line, &["supervise", "Supervisor::start", "Actor::start", "Context::run"])
            })
        },
        example: ("actors/src/limiter/handle.rs", "supervise(host);"),
    },
    Rule {
        statement: "only actors/src/clock.rs reads the time",
        remedy: "take `now` as the last argument, or call clock::now() in the shell",
        violations: |source| {
            if source.path.starts_with("loadtest/") {
                return Lines::new();
            }
            code(source, &["actors/src/clock.rs"], |line| {
                let readers =
                    ["Instant::now", "SystemTime::now", "OffsetDateTime::now_utc", "UtcDateTime::now"];
                calls(line, &readers) || line.contains(".elapsed()")
            })
        },
        example: ("src/worker.rs", "let t = Instant::now();"),
    },
    Rule {
        statement: "only the config crate reads the environment",
        remedy: "declare a key in config/ and take its value from the section",
        violations: |source| {
            if source.path.starts_with("config/src/") || source.path.starts_with("loadtest/") {
                return Lines::new();
            }
            let readers =
                ["env::var", "env::vars", "env::var_os", "env::vars_os", "env::set_var", "env::remove_var"];
            // A variable of glibc, for the process itself.
            code(source, &["src/memcpy.rs"], |line| calls(line, &readers))
        },
        example: ("src/main.rs", "let x = env::var(\"X\");"),
    },
    Rule {
        statement: "only src/telemetry/log/ and src/cli.rs write to stdout and stderr",
        remedy: "log it, or call write_stderr: a blocked terminal or pipe must block no worker and no exit",
        violations: |source| {
            let ships = ["src/", "actors/src/", "config/src/", "s3/src/"]
                .iter()
                .any(|folder| source.path.starts_with(folder));
            if !ships || source.path.starts_with("src/telemetry/log/") {
                return Lines::new();
            }
            let writers = ["io::stdout", "io::stderr", "print!", "println!", "eprint!", "eprintln!"];
            code(source, &["src/cli.rs"], |line| writers.iter().any(|writer| line.contains(writer)))
        },
        example: ("src/worker.rs", "eprintln!(\"lost\");"),
    },
    Rule {
        statement: "policy and S3 rules have no runtime",
        remedy: "return the decision; send, log and count it in actor.rs, handle.rs or metrics.rs",
        violations: runtimes,
        example: ("actors/src/pool/state.rs", "use tokio::sync::oneshot;"),
    },
    Rule {
        statement: "components do not import each other",
        remedy: "have system.rs give `new` a handle or a value of the peer",
        violations: foreign_components,
        example: ("actors/src/pool/actor.rs", "use crate::breaker::BreakerHandle;"),
    },
    Rule {
        statement: "every module begins with a `//!` module doc",
        remedy: "begin the file with what the module owns, what it must not do, and which rule it follows",
        violations: |source| {
            let opens = !source.is_rust() || source.text.starts_with("//!");
            if opens { Lines::new() } else { vec![1] }
        },
        example: ("src/worker.rs", "use std::rc::Rc;"),
    },
    Rule {
        statement: "a source file has at most 400 lines",
        remedy: "split it where it has two subjects, or move its tests to a file beside it; a test file too",
        violations: |source| {
            let lines = source.text.lines().count();
            let is_code = source.is_rust() || source.path.ends_with(".py");
            if is_code && lines > LINES_MAX { vec![lines] } else { Lines::new() }
        },
        example: ("tests/worker.py", EXAMPLE_OF_401_LINES),
    },
    Rule {
        statement: "a line of a comment has at most 140 characters",
        remedy: "wrap it",
        violations: |source| {
            if !source.is_rust() {
                return Lines::new();
            }
            lines(&source.text, |line| {
                line.trim_start().starts_with("//") && line.chars().count() > COMMENT_MAX
            })
        },
        example: ("src/worker.rs", EXAMPLE_OF_A_LONG_COMMENT),
    },
    Rule {
        statement: "nothing is left unfinished",
        remedy: "finish it, or open an issue and delete the mark",
        violations: |source| {
            let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];
            lines(&source.text, |line| marks.iter().any(|mark| has_word(line, mark)))
        },
        example: ("README.md", concat!("and (TO", "DO) more")),
    },
    Rule {
        statement: "every test runs and can fail",
        remedy: "make the test pass or delete it; assert something that could be false",
        violations: |source| {
            let marks = [
                concat!("#[ig", "nore"),
                concat!("assert!(", "true"),
                concat!("mark.", "skip"),
                concat!("mark.", "xfail"),
                concat!("pytest.", "skip("),
            ];
            lines(&source.text, |line| marks.iter().any(|mark| line.contains(mark)))
        },
        example: ("tests/pool.rs", concat!("#[ig", "nore = \"slow\"]")),
    },
    Rule {
        statement: "a file is named after what is in it",
        remedy: "find the noun; a collection of odds and ends grows without bound",
        violations: |source| {
            let drawers = ["utils", "util", "common", "helpers", "helper", "manager", "misc"];
            let in_drawer = source.path.split(['/', '.']).any(|part| drawers.contains(&part));
            if in_drawer { vec![1] } else { Lines::new() }
        },
        example: ("src/utils.rs", "//! things"),
    },
];

const COMMENT_MAX: usize = 140;
const EXAMPLE_OF_A_LONG_COMMENT: &str = {
    const BYTES: [u8; COMMENT_MAX + 1] = [b'/'; COMMENT_MAX + 1];
    match std::str::from_utf8(&BYTES) {
        Ok(text) => text,
        Err(_) => "",
    }
};
const LINES_MAX: usize = 400;
const EXAMPLE_OF_401_LINES: &str = {
    const BYTES: [u8; 401] = [b'\n'; 401];
    match std::str::from_utf8(&BYTES) {
        Ok(text) => text,
        Err(_) => "",
    }
};

/// Files that only compare the statuses of upstreams.
const READS_STATUSES: [(&str, &str); 1] = [
    // A 304 has its object's content-length and no body: the answer must be framed without it.
    ("src/upstream/response/body.rs", "StatusCode::NOT_MODIFIED"),
];

/// Files of `actors/src/` with a runtime, besides each component's `actor.rs`, `handle.rs` and `metrics.rs`. All other files of
/// `actors/src/` and all of `s3/src/` have no runtime, no log and no metrics.
const SHELLS: [&str; 21] = [
    "actors/src/actor_shell.rs",
    "actors/src/ask_timeout.rs",
    "actors/src/breaker/circuit_wait.rs",
    "actors/src/breaker/published_circuits.rs",
    "actors/src/chaos.rs",
    "actors/src/clock.rs",
    "actors/src/launches.rs",
    "actors/src/lazy_counter.rs",
    "actors/src/limiter/lease.rs",
    "actors/src/mailbox.rs",
    "actors/src/metrics.rs",
    "actors/src/monitor/view.rs",
    "actors/src/pool/credentials/suspects.rs",
    "actors/src/pool/gate/permit_cache.rs",
    "actors/src/pool/queue/wake_timer.rs",
    "actors/src/pool/queue_wait.rs",
    "actors/src/simulation/client_waker.rs",
    "actors/src/simulation/stepped_actor.rs",
    "actors/src/spawner.rs",
    "actors/src/supervisor.rs",
    "actors/src/system.rs",
];

/// Beginnings of the names of runtimes, logs, metrics and clients.
const RUNTIMES: [&str; 6] = ["actix", "tokio", "slog", "prometheus", "awc", "thread_local!"];

/// Whether a line names a runtime.
fn names_runtime(line: &str) -> bool {
    let in_name = |c: char| c.is_alphanumeric() || c == '_';
    let begins = |name: &str| {
        line.match_indices(name).any(|(at, _)| !line[..at].chars().next_back().is_some_and(in_name))
    };
    RUNTIMES.iter().any(|name| begins(name))
}

fn runtimes(source: &Source) -> Lines {
    let is_pure = ["actors/src/", "s3/src/"].iter().any(|folder| source.path.starts_with(folder));
    let is_shell = ["actor.rs", "handle.rs", "metrics.rs"].contains(&source.name());
    let is_test = source.name().ends_with("tests.rs") || source.path.starts_with("actors/src/simulation/");
    if !is_pure || is_shell || is_test {
        return Lines::new();
    }
    code(source, &SHELLS, names_runtime)
}

fn status_codes(source: &Source) -> Lines {
    // The embedded origin is a separate server: an upstream.
    let answers = ["src/http/error/", "src/origin/"];
    if !source.path.starts_with("src/") || answers.iter().any(|folder| source.path.starts_with(folder)) {
        return Lines::new();
    }
    let is_read =
        |rest: &str| READS_STATUSES.iter().any(|(path, name)| *path == source.path && rest.starts_with(name));
    code(source, &[], |line| {
        // Constants and their constructors begin with a capital, `HttpResponse::new(status)` does not.
        let names = |path: &str| {
            let mut places = line.match_indices(path).map(|(at, _)| &line[at..]);
            let capital = |rest: &&str| rest[path.len()..].starts_with(|c: char| c.is_ascii_uppercase());
            places.any(|rest| capital(&rest) && !is_read(rest))
        };
        names("StatusCode::") || names("HttpResponse::") || line.contains("StatusCode::from_u16")
    })
}

fn foreign_components(source: &Source) -> Lines {
    const COMPONENTS: [&str; 5] = ["breaker", "limiter", "monitor", "pool", "sessions"];
    // All other files of the crate belong to a component, or are below all components.
    let folders = ["actors/src/handover/", "actors/src/replay/", "actors/src/simulation/"];
    let above_all = ["lib.rs", "reconfigure.rs", "system.rs"]
        .iter()
        .any(|name| source.path == format!("actors/src/{name}"))
        || folders.iter().any(|folder| source.path.starts_with(folder));
    if !source.path.starts_with("actors/src/") || above_all {
        return Lines::new();
    }
    let own = source.path.split('/').nth(2).unwrap_or_default();
    code(source, &[], |line| {
        let imports = |component: &&&str| has_word(line, &format!("crate::{component}"));
        COMPONENTS.iter().filter(|component| **component != own).any(|component| imports(&component))
            || line.contains("super::super")
    })
}

/// The violating product lines, except in these files.
fn code(source: &Source, allowed: &[&str], offends: impl Fn(&str) -> bool) -> Lines {
    if allowed.contains(&source.path.as_str()) {
        return Lines::new();
    }
    source.code().into_iter().filter(|(_, line)| offends(line)).map(|(number, _)| number).collect()
}

fn lines(text: &str, offends: impl Fn(&str) -> bool) -> Lines {
    text.lines().enumerate().filter(|(_, line)| offends(line)).map(|(at, _)| at + 1).collect()
}

/// Whether the line calls or passes one of these functions.
fn calls(line: &str, functions: &[&str]) -> bool {
    let defines = |function: &str| line.contains(&format!("fn {function}"));
    functions.iter().any(|function| has_word(line, function) && !defines(function))
}

/// Whether `word` is in the line as a whole word, not as a part of a longer name.
fn has_word(line: &str, word: &str) -> bool {
    let in_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back().is_some_and(in_name);
        let after = line[at + word.len()..].chars().next().is_some_and(in_name);
        !before && !after
    })
}

/// The rules hold in every file of the repository.
#[test]
fn every_rule_holds() {
    let sources = sources::all();
    assert!(sources.len() > 150, "only {} sources are found: the walk is wrong", sources.len());
    let mut broken = Vec::new();
    for Rule { statement, remedy, violations, .. } in RULES {
        let places =
            sources.iter().flat_map(|source| violations(source).into_iter().map(|line| (&source.path, line)));
        let places: Vec<String> = places.map(|(path, line)| format!("  {path}:{line}")).collect();
        if !places.is_empty() {
            broken.push(format!("{statement}:\n{}\n  -> {remedy}", places.join("\n")));
        }
    }
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

/// Every rule finds its own counterexample.
#[test]
fn every_rule_finds_its_example() {
    for Rule { statement, violations, example: (path, text), .. } in RULES {
        assert!(!violations(&Source::sample(path, text)).is_empty(), "the rule finds nothing: {statement}");
    }
}

/// `tidegate-s3` depends on no runtime, no HTTP library and no other crate of the workspace.
#[test]
fn the_s3_crate_has_no_runtime_among_its_dependencies() {
    let manifest = sources::read("s3/Cargo.toml");
    let section =
        manifest.split("\n[dependencies]\n").nth(1).and_then(|rest| rest.split("\n[").next()).unwrap();
    let names: Vec<&str> = section.lines().filter_map(|line| line.split(['.', ' ', '=']).next()).collect();
    assert!(names.contains(&"hmac"), "{names:?}");
    let is_foreign = |name: &&&str| {
        let begins = |beginning: &str| name.starts_with(beginning);
        RUNTIMES.into_iter().any(begins) || ["h2", "http", "hyper", "tidegate"].into_iter().any(begins)
    };
    let foreign: Vec<_> = names.iter().filter(is_foreign).filter(|name| **name != "httpdate").collect();
    assert!(
        foreign.is_empty(),
        "s3/Cargo.toml: {foreign:?}\n  -> take what the rule needs as an argument or by a trait"
    );
}

/// The lists of exceptions have only needed entries, so they can only shrink.
#[test]
fn every_exception_is_still_needed() {
    for path in SHELLS {
        let text = sources::read(path);
        assert!(text.lines().any(names_runtime), "{path} is pure now: remove it from SHELLS");
    }
    for (path, constant) in READS_STATUSES {
        assert!(
            sources::read(path).contains(constant),
            "{path} no longer contains {constant}: remove it from the list"
        );
    }
}
