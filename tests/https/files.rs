//! Invalid certificate and key files: the start-up error names the config key and the file.

use std::fs;

use super::Identity;
use crate::support::Gateway;
use crate::support::gateway::ExitReport;

/// A7, C5, G1, Bad input: every start without a usable certificate fails with the config key, the file and the reason,
/// and `check` reports it before
#[test]
fn invalid_files_are_start_up_errors() {
    let identity = Identity::new();
    let (other_certificate, other_key) = identity.pair();
    let file =
        |name: &str, text: &str, mode: u32| identity.write(name, text, mode).to_str().unwrap().to_owned();
    let key = fs::read_to_string(identity.path("key.pem")).unwrap();
    let certificate =
        file("certificate.pem", &fs::read_to_string(identity.path("certificate.pem")).unwrap(), 0o644);
    let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let good = identity.path("key.pem").to_str().unwrap().to_owned();
    let missing = identity.path("missing.pem").to_str().unwrap().to_owned();
    for (certificate, key, words) in [
        (missing.clone(), good.clone(), ["server.tls.certificate_file", "cannot be read"]),
        (file("a.pem", &key, 0o600), good.clone(), ["server.tls.certificate_file", "has no certificate"]),
        (file("b.pem", damaged, 0o600), good.clone(), ["server.tls.certificate_file", "b.pem"]),
        (certificate.clone(), missing, ["server.tls.private_key_file", "cannot be read"]),
        (
            certificate.clone(),
            file("c.pem", &key, 0o644),
            ["server.tls.private_key_file", "can be read by other users"],
        ),
        (
            certificate.clone(),
            file("d.pem", &other_certificate, 0o600),
            ["server.tls.private_key_file", "d.pem"],
        ),
        (certificate.clone(), file("e.pem", "", 0o600), ["server.tls.private_key_file", "is empty"]),
        (
            certificate.clone(),
            file("f.pem", &other_key, 0o600),
            ["f.pem", "is not the key of the first certificate"],
        ),
    ] {
        let builder = || {
            Gateway::builder()
                .set("buckets.b.auth", "anonymous")
                .set("buckets.b.s3.endpoints", "http://127.0.0.1:9")
                .set("server.tls.certificate_file", &certificate)
                .set("server.tls.private_key_file", &key)
        };
        for builder in [builder(), builder().argument("check")] {
            let ExitReport { code, stderr, .. } = builder.run();
            assert_eq!(code, Some(78), "{stderr}");
            assert!(words.iter().all(|word| stderr.contains(word)), "{words:?} in {stderr}");
            assert!(!stderr.contains("PRIVATE KEY"), "the key itself is printed: {stderr}");
        }
    }
}

/// A7, Bad input: a certificate without a key, or a key without a certificate, is a start-up error that names the other
/// one
#[test]
fn half_a_pair_is_a_start_up_error() {
    let identity = Identity::new();
    for (name, set, missing) in [
        ("certificate.pem", "server.tls.certificate_file", "server.tls.private_key_file"),
        ("key.pem", "server.tls.private_key_file", "server.tls.certificate_file"),
    ] {
        let path = identity.path(name);
        let ended = Gateway::builder().set(set, path.to_str().unwrap()).run();
        assert_eq!(ended.code, Some(78), "{ended:?}");
        assert!(ended.stderr.contains(&format!("set {missing} too")), "{ended:?}");
    }
}
