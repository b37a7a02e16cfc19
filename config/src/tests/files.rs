//! Files that a configuration names, and the configuration file itself.

use super::{from_toml, lines};
use crate::{Sources, load};

/// A path of this test's own.
fn own_path(name: &str) -> std::path::PathBuf {
    std::env::temp_dir().join(format!("tidegate-config-{}-{name}", std::process::id()))
}

/// G1: reading a FIFO would wait without a limit, and a directory has no text
#[test]
fn every_key_for_a_file_rejects_other_than_regular_files() {
    let (fifo, directory) = (own_path("fifo.toml"), own_path("directory.toml"));
    let _ = std::fs::remove_file(&fifo);
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    std::fs::create_dir_all(&directory).unwrap();
    for (path, kind) in [(&fifo, "a FIFO"), (&directory, "a directory")] {
        let expected = format!("cannot be read: it is not a regular file but {kind} (from ");
        for key in [
            "buckets.demo.s3.access_key_id_file",
            "buckets.demo.s3.secret_access_key_file",
            "buckets.demo.s3.credentials_file",
            "buckets.demo.s3.tls.ca_file",
            "keys.k.secret_file",
            "api_keys.k.secret_file",
            "jwt.secret_file",
            "jwt.public_key_file",
            "jwt.jwks_file",
            "server.tls.private_key_file",
            "server.tls.certificate_file",
            "admin.token_file",
            "admin.read_token_file",
            "admin.tls.private_key_file",
            "admin.tls.certificate_file",
            "admin.tls.client_ca_file",
        ] {
            let found = lines(from_toml(&format!("{key} = {path:?}\n")));
            let line = found.iter().find(|line| line.starts_with(&format!("{key}: ")));
            let line = line.unwrap_or_else(|| panic!("{key}: {found:?}"));
            assert!(line.contains(&expected), "{line}");
        }
        let found = lines(load(Sources::default().file(path)));
        assert!(found[0].contains(&expected), "{found:?}");
    }
    std::fs::remove_file(&fifo).unwrap();
    std::fs::remove_dir(&directory).unwrap();
}
