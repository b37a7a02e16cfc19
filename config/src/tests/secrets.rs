//! Secrets in files and variables (C5).

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::{from_toml, from_variables, lines};
use crate::{Secret, is_secret_variable};

/// A file of this test's own, removed with it.
struct TestFile(PathBuf);

impl TestFile {
    fn new(name: &str, text: &str, mode: u32) -> Self {
        let path = std::env::temp_dir().join(format!("tidegate-config-{}-{name}", std::process::id()));
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        Self(path)
    }

    fn path(&self) -> String {
        self.0.display().to_string()
    }
}

impl Drop for TestFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn bucket(keys: &str) -> String {
    format!("[buckets.b.s3]\nendpoints = [\"http://a\"]\n{keys}\n")
}

/// C5
#[test]
fn a_key_pair_may_be_in_files() {
    let id = TestFile::new("id", "AKID\n", 0o600);
    let secret = TestFile::new("secret", "s/e+cret\r\n", 0o640);
    let keys = format!("access_key_id_file = {:?}\nsecret_access_key_file = {:?}", id.path(), secret.path());
    let credentials = from_toml(&bucket(&keys)).unwrap().buckets["b"].upstream.credentials.clone().unwrap();
    assert_eq!(credentials.access_key_id, "AKID");
    assert_eq!(credentials.secret_access_key, Secret::new("s/e+cret"));
}

/// C5
#[test]
fn a_credentials_file_gives_its_profile() {
    let text = "[default]\naws_access_key_id=A\naws_secret_access_key=b\n[c]\naws_access_key_id=D\n\
                aws_secret_access_key=e\naws_session_token=f\n";
    let file = TestFile::new("profiles", text, 0o400);
    let keys = format!("credentials_file = {:?}\n", file.path());
    let credentials =
        |keys: &str| from_toml(&bucket(keys)).unwrap().buckets["b"].upstream.credentials.clone();
    assert_eq!(credentials(&keys).unwrap().access_key_id, "A");
    let temporary = credentials(&format!("{keys}credentials_profile = \"c\"")).unwrap();
    assert_eq!((&*temporary.access_key_id, temporary.session_token), ("D", Some(Secret::new("f"))));
    let unknown = lines(from_toml(&bucket(&format!("{keys}credentials_profile = \"x\""))));
    assert_eq!(
        unknown,
        ["buckets.b.s3.credentials_file: has no profile x with a key pair (from t.toml); set \
             buckets.b.s3.credentials_profile to another profile"]
    );
}

/// C5, C4: the error does not repeat its content
#[test]
fn a_secret_file_that_others_can_reach_is_refused() {
    let refused = |mode: u32| {
        let file = TestFile::new("open", "hunter2", mode);
        let keys = format!("access_key_id = \"A\"\nsecret_access_key_file = {:?}", file.path());
        let key = format!("buckets.b.s3.secret_access_key_file: {:?} ", file.path());
        let found = lines(from_toml(&bucket(&keys)));
        found[0].strip_prefix(&key).unwrap().to_owned()
    };
    for mode in [0o644, 0o604, 0o601] {
        let line = refused(mode);
        assert!(
            line.starts_with(&format!("can be read by other users (mode {mode:04o}) (from t.toml); ")),
            "{line}"
        );
        for way_out in ["chmod 600 it", "Kubernetes", "defaultMode", "fsGroup", "Docker and Compose"] {
            assert!(line.contains(way_out), "{way_out} in {line}");
        }
    }
    for mode in [0o602, 0o666] {
        let line = refused(mode);
        assert!(line.starts_with(&format!("can be written by other users (mode {mode:04o})")), "{line}");
    }
    let empty = TestFile::new("empty", "\n", 0o600);
    let keys = format!("access_key_id = \"A\"\nsecret_access_key_file = {:?}", empty.path());
    assert!(lines(from_toml(&bucket(&keys)))[0].contains("is empty"));
}

/// C5: bytes that an editor or a file of variables adds do not become part of a secret, and the error does not repeat them
#[test]
fn marks_and_quotes_that_would_become_part_of_a_secret_are_rejected() {
    for (text, expected) in [
        ("\u{feff}hunter2\n", "begins with a byte order mark (UTF-8 BOM); save it as UTF-8 without one"),
        ("hunter2\nhunter3\n", "has blanks or more than one line"),
    ] {
        let file = TestFile::new("marked", text, 0o600);
        let keys = format!("access_key_id = \"A\"\nsecret_access_key_file = {:?}", file.path());
        let line = lines(from_toml(&bucket(&keys))).remove(0);
        let start =
            format!("buckets.b.s3.secret_access_key_file: {:?} {expected} (from t.toml)", file.path());
        assert!(line.starts_with(&start) && !line.contains("hunter"), "{line}");
    }
    for key in
        ["KEYS__K__SECRET", "BUCKETS__B__S3__SECRET_ACCESS_KEY", "BUCKETS__B__S3__REGION", "SERVER__PORT"]
    {
        for value in ["\"hunter2\"", "'hunter2'", "\"hunter2\" "] {
            let name = format!("TIDEGATE_{key}");
            let found = lines(from_variables(&[(&name, value)]));
            let expected =
                format!("has quotes, which would become part of the value (from {name}); remove them");
            let line = found.iter().find(|line| line.contains(&expected));
            assert!(line.is_some() && found.iter().all(|line| !line.contains("hunter")), "{found:?}");
        }
    }
}

/// C5
#[test]
fn variables_that_hold_secrets_are_known_by_name() {
    for name in [
        "TIDEGATE_BUCKETS__B__S3__SECRET_ACCESS_KEY",
        "TIDEGATE_BUCKETS__X_Y__S3__SESSION_TOKEN",
        "TIDEGATE_KEYS__K__SECRET",
    ] {
        assert!(is_secret_variable(name), "{name}");
    }
    for name in [
        "TIDEGATE_BUCKETS__B__S3__ACCESS_KEY_ID",
        "TIDEGATE_BUCKETS__B__S3__SECRET_ACCESS_KEY_FILE",
        "TIDEGATE_X",
    ] {
        assert!(!is_secret_variable(name), "{name}");
    }
}
