//! Sources of secrets, and their removal from the environment.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::support::{Gateway, Scratch, Upstream, get, put};

/// A file with this text and mode.
pub(super) fn file(directory: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    path
}

/// C5, C4: a secret from a variable signs requests, and is not in the process's environment or arguments afterwards
#[tokio::test]
async fn a_secret_is_removed_from_the_environment() {
    let upstream = Upstream::ok("");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.s3.access_key_id", "GATEWAYKEY")
        .set("buckets.b.s3.secret_access_key", "the-secret-itself")
        .set("buckets.b.s3.session_token", "the-token-itself")
        .start()
        .await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    assert!(upstream.last().header("authorization").unwrap().contains("Credential=GATEWAYKEY/"));
    let of_process = |what: &str| {
        let bytes = fs::read(format!("/proc/{}/{what}", gateway.pid())).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let environment = of_process("environ");
    assert!(environment.contains("TIDEGATE_BUCKETS__B__S3__ACCESS_KEY_ID=GATEWAYKEY"), "{environment}");
    for text in [environment, of_process("cmdline"), gateway.status().await.to_string(), gateway.stderr()] {
        assert!(!text.contains("itself") && !text.contains("SECRET_ACCESS_KEY"), "{text}");
    }
}

/// C5: credentials in files sign requests that a server verifies
#[tokio::test]
async fn a_pair_in_files_signs() {
    let (directory, store) = (Scratch::new(), Scratch::new());
    let origin = tidegate::origin::start(store.path(), "real").unwrap();
    let (id, secret) = (&origin.access_key_id, &origin.secret_access_key);
    let pair = format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
    let id = file(directory.path(), "id", &format!("{id}\n"), 0o600);
    let secret = file(directory.path(), "secret", secret, 0o400);
    let profiles = file(directory.path(), "credentials", &pair, 0o600);
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let gateway = Gateway::builder()
        .bucket_at("real", &[origin.address])
        .set("buckets.real.s3.access_key_id_file", &text(&id))
        .set("buckets.real.s3.secret_access_key_file", &text(&secret))
        .bucket_at("other", &[origin.address])
        .set("buckets.other.s3.bucket", "real")
        .set("buckets.other.s3.credentials_file", &text(&profiles))
        .start()
        .await;
    assert_eq!(put(gateway.address(), "/real/k", "v").await.complete_status(), 200);
    assert_eq!(get(gateway.address(), "/other/k").await.text(), "v");
}

/// C5: a secret that other users can read is a start-up error with config key, mode and remedy, and without the secret
#[test]
fn a_secret_file_readable_by_others_is_a_start_up_error() {
    let directory = Scratch::new();
    let secret = file(directory.path(), "secret", "hunter2", 0o644);
    let ended = Gateway::builder()
        .bucket_at("b", &[([127, 0, 0, 1], 9).into()])
        .set("buckets.b.s3.access_key_id", "A")
        .set("buckets.b.s3.secret_access_key_file", secret.to_str().unwrap())
        .run();
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.stderr.contains("buckets.b.s3.secret_access_key_file: "), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("can be read by other users (mode 0644)") && ended.stderr.contains("chmod 600")
    );
    assert!(!ended.stderr.contains("hunter2"));
}
