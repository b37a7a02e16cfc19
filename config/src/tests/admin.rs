//! Who may use the admin listener: tokens, addresses and client certificates.

use super::{from_toml, from_variables, lines};
use crate::{Secret, is_secret_variable};

const TOKEN: &str = "0123456789abcdef0123456789ABCDE!";
const OTHER: &str = "~123456789abcdef0123456789abcdef";

fn admin(keys: &str) -> Result<crate::AdminConfig, crate::Problems> {
    from_toml(&format!("[admin]\n{keys}\n")).map(|config| config.admin)
}

/// C4, C5: both tokens are read, and neither is shown or left in the environment
#[test]
fn tokens_are_secrets() {
    let read = admin(&format!("token = {TOKEN:?}\nread_token = {OTHER:?}")).unwrap();
    assert_eq!(read.operator_token(), Some(&Secret::new(TOKEN)));
    assert_eq!(read.read_token(), Some(&Secret::new(OTHER)));
    let shown = format!("{read:?}");
    assert!(!shown.contains(TOKEN) && !shown.contains(OTHER), "{shown}");
    for (name, is_secret) in [
        ("TIDEGATE_ADMIN__TOKEN", true),
        ("TIDEGATE_ADMIN__READ_TOKEN", true),
        ("TIDEGATE_ADMIN__TOKEN_FILE", false),
        ("TIDEGATE_ADMIN__ADDRESS", false),
    ] {
        assert_eq!(is_secret_variable(name), is_secret, "{name}");
    }
}

/// G1, C4: a token that is short, has other characters than printable ASCII, or is used twice is an error without the
/// token
#[test]
fn unusable_tokens_are_refused() {
    for (keys, expected) in [
        (
            format!("token = {:?}", &TOKEN[1..]),
            "admin.token: is shorter than 32 characters and could be guessed (from t.toml); openssl rand -hex 32 \
             prints a strong secret",
        ),
        (
            format!("read_token = {:?}", &TOKEN[1..]),
            "admin.read_token: is shorter than 32 characters and could be guessed (from t.toml); openssl rand -hex \
             32 prints a strong secret",
        ),
        (
            format!("token = \"{TOKEN}é\""),
            "admin.token: has characters that are not printable ASCII (from t.toml); openssl rand -hex 32 prints a \
             strong token",
        ),
        (format!("token = \"{TOKEN} x\""), "admin.token: has whitespace or control characters (from t.toml)"),
        (
            format!("token = {TOKEN:?}\nread_token = {TOKEN:?}"),
            "admin.read_token: has the same value as admin.token (from t.toml); give each its own token: a scraper \
             must not be able to change anything",
        ),
    ] {
        let found = lines(from_toml(&format!("[admin]\n{keys}\n")));
        assert_eq!(found, [expected], "{keys}");
        assert!(!found[0].contains(&TOKEN[1..]), "{found:?}");
    }
    assert_eq!(
        admin(&format!("token = {:?}", &TOKEN[..32])).unwrap().operator_token().unwrap().expose().len(),
        32
    );
}

/// C5, G1: a token may be in a file; both keys of one token are an error, and so is the same token in file and key
#[test]
fn a_token_may_be_in_a_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let path = std::env::temp_dir().join(format!("tidegate-config-{}-admin-token", std::process::id()));
    std::fs::write(&path, format!("{TOKEN}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let read = admin(&format!("token_file = {path:?}")).unwrap();
    assert_eq!(read.operator_token(), Some(&Secret::new(TOKEN)));
    let both = lines(admin_config(&format!("token = {OTHER:?}\ntoken_file = {path:?}")));
    assert_eq!(
        both,
        ["admin.token_file: cannot be set together with admin.token (from t.toml); set one of them"]
    );
    let same = lines(admin_config(&format!("read_token = {TOKEN:?}\ntoken_file = {path:?}")));
    assert!(same[0].starts_with("admin.read_token: has the same value as admin.token_file"), "{same:?}");
    std::fs::write(&path, "short\n").unwrap();
    let short = lines(admin_config(&format!("read_token_file = {path:?}")));
    assert!(short[0].starts_with("admin.read_token_file: is shorter than 32 characters"), "{short:?}");
    std::fs::remove_file(&path).unwrap();
}

fn admin_config(keys: &str) -> Result<crate::Config, crate::Problems> {
    from_toml(&format!("[admin]\n{keys}\n"))
}

/// G1: an address that other machines reach needs a token or mutual TLS, and the error names the keys
#[test]
fn an_open_address_needs_authentication() {
    for address in ["0.0.0.0", "::", "10.0.0.1", "::ffff:10.0.0.1", "2001:db8::1"] {
        let found = lines(admin_config(&format!("address = \"{address}\"")));
        assert_eq!(
            found,
            [format!(
                "admin.address: {address} is not a loopback address, and nothing protects the admin listener (from \
                 t.toml); set admin.token or admin.token_file to a token, or admin.tls.client_ca_file for mutual \
                 TLS, or set admin.address to 127.0.0.1"
            )]
        );
        for token in ["token", "read_token"] {
            assert!(
                admin(&format!("address = \"{address}\"\n{token} = {TOKEN:?}")).is_ok(),
                "{address}, {token}"
            );
        }
    }
    for address in ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"] {
        assert!(admin(&format!("address = \"{address}\"")).is_ok(), "{address}");
    }
    let variables = [("TIDEGATE_ADMIN__ADDRESS", "::"), ("TIDEGATE_ADMIN__TOKEN", "short")];
    let found = lines(from_variables(&variables));
    assert_eq!(found.len(), 1, "a weak token is one problem: {found:?}");
    assert!(found[0].starts_with("admin.token: is shorter"), "{found:?}");
}

/// G1: chaos stays refused on an open address, even with a token
#[test]
fn a_token_does_not_allow_chaos_on_an_open_address() {
    let found = lines(admin_config(&format!("chaos = true\naddress = \"0.0.0.0\"\ntoken = {TOKEN:?}")));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("admin.chaos: needs a loopback address, and admin.address is 0.0.0.0"),
        "{found:?}"
    );
}

/// G1: a part of the TLS keys is an error that names the missing ones
#[test]
fn tls_needs_its_certificate_and_its_key() {
    let path = std::env::temp_dir().join(format!("tidegate-config-{}-admin.pem", std::process::id()));
    std::fs::write(&path, "-----BEGIN CERTIFICATE-----\n").unwrap();
    let found = lines(admin_config(&format!("tls.client_ca_file = {path:?}")));
    assert!(found[0].contains("needs admin.tls.certificate_file"), "{found:?}");
    assert!(found[1].contains("needs admin.tls.private_key_file"), "{found:?}");
    let found = lines(admin_config(&format!("tls.certificate_file = {path:?}")));
    assert!(found[0].contains("needs admin.tls.private_key_file"), "{found:?}");
    std::fs::remove_file(&path).unwrap();
    let connections = lines(admin_config("max_connections = 0"));
    assert!(connections[0].starts_with("admin.max_connections: 0 is out of range 1–1024"), "{connections:?}");
}
