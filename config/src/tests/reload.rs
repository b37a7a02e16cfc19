//! Loading again: the sources that are kept, the rules for the file, and what differs.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::*;

const SECRET: &str = "hunter2-hunter2-hunter2";
const TEXT: &str = "[server]\nkeep_alive = 7\nport = 8001\n[buckets.photos]\nauth = [\"sigv4\"]\n\
                    [buckets.photos.s3]\nendpoints = [\"http://store:9000\"]\n\
                    health_check.path = \"/live?token=one\"\n[policies.all]\nbuckets = [\"photos\"]\nmethods = [\"read\"]\n\
                    [keys.uploader]\npolicy = \"all\"\n";

/// A directory with a configuration and a file with a secret.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tidegate-reload-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        let directory = Self(path);
        directory.write("secret", SECRET, 0o600);
        directory.write("t.toml", &directory.text(), 0o600);
        directory
    }

    fn text(&self) -> String {
        format!("{TEXT}secret_file = {:?}\n", self.path("secret"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn sources(&self, variables: &[(&str, &str)]) -> SourceSet {
        let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        SourceSet::new(Some(self.path("t.toml")), variables, false)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn problems(result: Result<Loaded, Problems>) -> Vec<String> {
    result.map(|loaded| loaded.config).unwrap_err().iter().map(ToString::to_string).collect()
}

/// The changes without the directory of the test.
fn changes(old: &Loaded, new: &Loaded, directory: &Path) -> Vec<String> {
    let diff = ConfigDiff::of(&old.effective, &new.effective);
    let directory = format!("{}/", directory.display());
    diff.iter().map(|change| change.to_string().replace(&directory, "")).collect()
}

/// G3: the file and the files that it names are read anew, variables are those of the start
#[test]
fn a_reload_reads_the_files_and_keeps_the_variables() {
    let directory = Directory::new("anew");
    let sources = directory.sources(&[("TIDEGATE_SERVER__KEEP_ALIVE", "9"), ("OTHER", "1")]);
    let first = sources.load().unwrap();
    assert_eq!(first.files, [directory.path("t.toml"), directory.path("secret")]);
    directory.write("t.toml", &directory.text().replace("8001", "8002"), 0o600);
    directory.write("secret", "another-secret-of-a-key", 0o600);
    let second = sources.reload().unwrap();
    assert_eq!((second.config.server.port, second.config.server.keep_alive.as_secs()), (8002, 9));
    assert_ne!(second.config.keys, first.config.keys);
    assert_eq!(
        changes(&first, &second, &directory.0),
        [
            "~ server.port: 8001 → 8002 (from t.toml, line 3)",
            "~ keys.uploader.secret_file: changed (from t.toml, line 14)",
        ]
    );
}

/// G3: loading the same again changes nothing
#[test]
fn the_same_content_is_no_change() {
    let directory = Directory::new("same");
    let sources = directory.sources(&[("TIDEGATE_ADMIN__TOKEN", "0123456789abcdef0123456789abcdef")]);
    let (first, second) = (sources.load().unwrap(), sources.reload().unwrap());
    assert_eq!(second.config, first.config);
    let diff = ConfigDiff::of(&first.effective, &second.effective);
    assert!(diff.is_empty() && diff.check().is_ok());
    // the same value from another source
    let moved = directory.sources(&[
        ("TIDEGATE_ADMIN__TOKEN", "0123456789abcdef0123456789abcdef"),
        ("TIDEGATE_SERVER__PORT", "8001"),
    ]);
    assert!(ConfigDiff::of(&first.effective, &moved.reload().unwrap().effective).is_empty());
}

/// G3, C4: added and removed sections show the keys that are set, and no output shows a secret
#[test]
fn a_difference_shows_keys_and_no_secret() {
    let directory = Directory::new("keys");
    let sources = directory.sources(&[]);
    let first = sources.load().unwrap();
    let text = directory.text().replace("[keys.uploader]", "[keys.other]").replace("token=one", "token=two")
        + "secret = \"hunter3-hunter3\"\n[server.limits]\nmax_headers = 50\n[admin]\ntoken = \"hunter4-hunter4-hunter4-hunter4-hunter4\"\n";
    let text = text.replace(&format!("secret_file = {:?}\n", directory.path("secret")), "");
    directory.write("t.toml", &text, 0o600);
    let second = sources.reload().unwrap();
    let found = changes(&first, &second, &directory.0);
    assert_eq!(
        found,
        [
            "~ server.limits.max_headers: 90 → 50 (from t.toml, line 16)",
            "~ admin.token: (not set) → (set) (from t.toml, line 18)",
            "~ buckets.photos.s3.health_check.path: changed (from t.toml, line 8)",
            "+ keys.other.secret = (set) (from t.toml, line 14)",
            "+ keys.other.policy = \"all\" (from t.toml, line 13)",
            "- keys.uploader.secret_file = \"secret\" (from t.toml, line 14)",
            "- keys.uploader.policy = \"all\" (from t.toml, line 13)",
        ]
    );
    let debug = format!("{:?}", ConfigDiff::of(&first.effective, &second.effective));
    assert!(!found.iter().chain([&debug]).any(|text| text.contains("hunter") || text.contains("token=")));
}

/// G3: a changed default that follows another key is a change too
#[test]
fn a_value_that_follows_another_key_is_a_change() {
    let directory = Directory::new("follows");
    let sources = directory.sources(&[]);
    let first = sources.load().unwrap();
    directory.write("t.toml", &format!("{}[monitor]\nwarning = 60\n", directory.text()), 0o600);
    let found = changes(&first, &sources.reload().unwrap(), &directory.0);
    assert!(found.iter().any(|line| line.starts_with("~ monitor.warning: ")), "{found:?}");
    assert!(
        found.iter().any(|line| line.starts_with("~ monitor.recover: ") && line.ends_with("(default)")),
        "{found:?}"
    );
}

/// G3: each key that needs a restart is one problem, with both values and the reason
#[test]
fn keys_that_need_a_restart_are_problems() {
    let directory = Directory::new("restart");
    let sources = directory.sources(&[]);
    let first = sources.load().unwrap();
    let text = directory.text().replace("port = 8001", "port = 8002\nworkers = 3");
    directory.write(
        "t.toml",
        &format!("{text}[supervision]\nwindow_seconds = 20\n[log]\nlevel = \"warn\"\n"),
        0o600,
    );
    let second = sources.reload().unwrap();
    let refused = ConfigDiff::of(&first.effective, &second.effective).check().unwrap_err();
    let file = directory.path("t.toml");
    let expected = [
        format!(
            "server.port: cannot change while the gateway runs (8001 → 8002): the listening sockets are opened once (from {}); \
             restart the gateway, or take the change back",
            file.display()
        ),
        "server.workers: cannot change while the gateway runs (0 → 3)".to_owned(),
        "supervision.window_seconds: cannot change while the gateway runs (10 s → 20 s)".to_owned(),
    ];
    assert_eq!(refused.iter().count(), expected.len(), "{refused}");
    for (problem, expected) in refused.iter().zip(&expected) {
        assert!(problem.to_string().starts_with(expected.as_str()), "{problem}");
    }
    assert_eq!(refused.iter().map(|problem| problem.line).collect::<Vec<_>>(), [Some(3), Some(4), Some(17)]);
}

/// G3: TLS can get other files, and cannot be switched on
#[test]
fn tls_cannot_be_switched_on() {
    let directory = Directory::new("tls");
    directory.write("a.pem", "-----BEGIN CERTIFICATE-----\nA", 0o600);
    directory.write("b.pem", "-----BEGIN CERTIFICATE-----\nB", 0o600);
    let cleartext = directory.sources(&[]).load().unwrap();
    let with = |name: &str| {
        let (certificate, key) = (directory.path(name), directory.path("secret"));
        let text = format!(
            "{}[server.tls]\ncertificate_file = {certificate:?}\nprivate_key_file = {key:?}\n",
            directory.text()
        );
        directory.write("t.toml", &text, 0o600);
        directory.sources(&[]).load().unwrap()
    };
    let (first, second) = (with("a.pem"), with("b.pem"));
    assert!(ConfigDiff::of(&first.effective, &second.effective).check().is_ok());
    for (old, new) in [(&cleartext, &first), (&first, &cleartext)] {
        let refused = ConfigDiff::of(&old.effective, &new.effective).check().unwrap_err();
        let keys: Vec<_> = refused.iter().map(|problem| problem.key.as_str()).collect();
        assert_eq!(keys, ["server.tls.certificate_file", "server.tls.private_key_file"]);
    }
    directory.write("b.pem", "-----BEGIN CERTIFICATE-----\nC", 0o600);
    let renewed = directory.sources(&[]).load().unwrap();
    let found = changes(&second, &renewed, &directory.0);
    assert_eq!(found, ["~ server.tls.certificate_file: changed (from t.toml, line 16)"]);
}

/// G3: a reload refuses a file that others can write, and a start warns about it
#[test]
fn a_file_that_others_can_write_is_refused() {
    let directory = Directory::new("writable");
    let sources = directory.sources(&[]);
    directory.write("t.toml", &directory.text(), 0o646);
    assert_eq!(sources.load().unwrap().warnings.iter().count(), 1);
    let file = directory.path("t.toml");
    let expected = format!(
        "{0}: can be written by other users (mode 0646), so a running gateway does not load it (from {0}); chmod 600 it, or 640 with \
         a group of its own",
        file.display()
    );
    assert_eq!(problems(sources.reload()), [expected]);
    directory.write("t.toml", &directory.text(), 0o644);
    assert!(sources.reload().is_ok(), "others can read it");
    fs::set_permissions(&directory.0, fs::Permissions::from_mode(0o777)).unwrap();
    let found = problems(sources.reload());
    assert!(found[0].contains("can be replaced by other users, who can write to "), "{found:?}");
    fs::set_permissions(&directory.0, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(sources.reload().is_ok());
}

/// G3: a file that was cut off, and a secret that is missing, are problems with the file, the place and the fix
#[test]
fn a_file_that_was_cut_off_is_refused() {
    let directory = Directory::new("cut");
    let sources = directory.sources(&[]);
    let (whole, file) = (directory.text(), directory.path("t.toml").display().to_string());
    let cut = whole.find("store:9000").unwrap();
    directory.write("t.toml", &whole[..cut], 0o600);
    let found = problems(sources.reload());
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with(&format!("{file}: cannot be parsed: line 7: ")), "{found:?}");
    assert!(found[0].ends_with("write it aside and rename it over the old one"), "{found:?}");
    for blank in ["", "\n \n"] {
        directory.write("t.toml", blank, 0o600);
        assert!(problems(sources.reload())[0].starts_with(&format!("{file}: is empty (from {file}); ")));
    }
    fs::remove_file(directory.path("t.toml")).unwrap();
    assert_eq!(problems(sources.reload()), [format!("{file}: cannot be read: no such file (from --config)")]);
    directory.write("t.toml", &whole, 0o600);
    fs::remove_file(directory.path("secret")).unwrap();
    let refused = sources.reload().map(|loaded| loaded.config).unwrap_err();
    let first = refused.iter().next().unwrap();
    assert_eq!((first.key.as_str(), first.line), ("keys.uploader.secret_file", Some(14)));
    assert!(first.message.contains("secret\" cannot be read: "), "{refused}");
}

/// G3: a configuration that has lost its buckets is refused, because a file can be cut off between two sections
#[test]
fn a_gateway_keeps_a_bucket() {
    let directory = Directory::new("buckets");
    let sources = directory.sources(&[]);
    let first = sources.load().unwrap();
    directory.write("t.toml", "[server]\nkeep_alive = 7\nport = 8001\n", 0o600);
    let second = sources.reload().unwrap();
    let refused = ConfigDiff::of(&first.effective, &second.effective).check().unwrap_err();
    assert!(refused.to_string().starts_with("buckets: none is configured, "), "{refused}");
    assert!(
        ConfigDiff::of(&second.effective, &first.effective).check().is_ok(),
        "a first bucket can be added"
    );
}

/// G3, G12: with `--strict` a warning refuses a reload as it refuses a start
#[test]
fn a_strict_reload_refuses_warnings() {
    let directory = Directory::new("strict");
    directory.write("t.toml", &format!("{}[admin]\nchaos = true\n", directory.text()), 0o600);
    let sources = |is_strict| SourceSet::new(Some(directory.path("t.toml")), [], is_strict);
    assert_eq!(sources(false).reload().unwrap().warnings.iter().count(), 1);
    let found = problems(sources(true).reload());
    assert!(found[0].starts_with("admin.chaos: is on"), "{found:?}");
}

/// G6: every key that names a file which is read ends with `_file`, so that its content is watched
#[test]
fn keys_of_files_have_a_common_ending() {
    for entry in reference::survey().entries {
        let is_read = entry.accepts.starts_with("path of a");
        let name = entry.path.to_string();
        assert_eq!(is_read, name.ends_with("_file"), "{name} accepts {}", entry.accepts);
    }
}

/// G3, X7: a client of the running gateway needs the keys of `admin` and `server` alone, and with a URL no file
#[test]
fn a_client_needs_no_other_section() {
    let directory = Directory::new("client");
    let token = "a-token-of-operators-that-is-long";
    let sources = directory.sources(&[("TIDEGATE_ADMIN__TOKEN", token), ("tidegate_server__port", "1")]);
    fs::remove_file(directory.path("secret")).unwrap();
    let text =
        format!("{}[admin]\nport = 8003\n", directory.text()).replace("keep_alive = 7", "keep_alive = -7");
    directory.write("t.toml", &text, 0o600);
    assert_eq!(problems(sources.load()).len(), 1, "a variable in lower case is no variable of tidegate");
    let client = sources.load_for_client().unwrap();
    assert_eq!((client.admin.port, client.server.port), (8003, 8001));
    assert_eq!(client.admin.operator_token().map(|token| token.expose().to_owned()), Some(token.to_owned()));

    directory.write(
        "t.toml",
        "[admin]\nport = 8003\ntokn = \"x\"\n[buckets.b]\nauth = [\"anyone\"]\n",
        0o600,
    );
    let refused = sources.load_for_client().unwrap_err();
    assert_eq!(refused.iter().map(|problem| problem.key.as_str()).collect::<Vec<_>>(), ["admin.tokn"]);
    directory.write("t.toml", "[admin\n", 0o600);
    assert!(sources.load_for_client().is_err());
    let client = sources.load_for_client_without_file().unwrap();
    assert_eq!((client.admin.port, client.admin.operator_token().is_some()), (8090, true));

    let named = |path: &str| {
        let variable = (OsString::from("TIDEGATE_CONFIG"), OsString::from(path));
        SourceSet::new(None, [variable], false)
    };
    let nowhere = named("/nowhere/t.toml");
    assert!(nowhere.load_for_client().unwrap_err().to_string().contains("no such file"));
    assert_eq!(nowhere.load_for_client_without_file().unwrap().admin.port, 8090);
}
