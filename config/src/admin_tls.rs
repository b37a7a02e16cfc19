//! TLS on the admin listener, and client certificates (mutual TLS).
//!
//! The files are read at the start, so a missing file stops the start. Their paths are kept, so that the gateway can read
//! them again when they change. The admin listener has no HTTP/2.

use std::time::Duration;

use crate::bucket::{Pem, PemFromFile};
use crate::schema::{Section, key, unset};
use crate::secret_file::{SecretFile, SecretPath};
use crate::section::section;
use crate::value_type::seconds;

const CERTIFICATE: &str = "certificate_file";
const PRIVATE_KEY: &str = "private_key_file";
const CLIENT_CA: &str = "client_ca_file";

section! {
    /// TLS towards clients of the admin listener.
    pub struct AdminTlsConfig {
        /// PEM file of the certificate and its intermediates; with it the admin listener accepts TLS only
        pub certificate_file: Option<Pem> = unset("certificate_file", PemFromFile, "cleartext");
        /// PEM file of the certificate's private key, not encrypted
        pub private_key_file: Option<SecretFile> = unset("private_key_file", SecretPath, "cleartext");
        /// PEM file of the authorities of client certificates; with it each client needs a certificate of one of them
        ///
        /// A client with such a certificate is an operator and needs no token. Clients without one cannot connect, not even for
        /// probes: the data listener has `/-/livez` and `/-/readyz`.
        pub client_ca_file: Option<Pem> = unset("client_ca_file", PemFromFile, "no client certificates");
        /// interval at which the files are checked for changes
        ///
        /// New files apply to new connections. SIGHUP reloads the files at once.
        pub reload_interval: Duration =
            key("reload_interval", seconds(0.01..=86_400.0), Duration::from_secs(10));
    }
}

impl AdminTlsConfig {
    /// The certificate and its private key, if TLS is on.
    pub fn files(&self) -> Option<(&Pem, &SecretFile)> {
        self.certificate_file.as_ref().zip(self.private_key_file.as_ref())
    }

    /// Rejects a certificate without its private key, the reverse, and authorities of clients without both.
    pub(crate) fn checked(self, section: &mut Section<'_>) -> Self {
        for (set, missing) in [
            (CERTIFICATE, PRIVATE_KEY),
            (PRIVATE_KEY, CERTIFICATE),
            (CLIENT_CA, CERTIFICATE),
            (CLIENT_CA, PRIVATE_KEY),
        ] {
            if section.is_set(set) && !section.is_set(missing) {
                let missing = section.full_key(missing);
                section.refuse(set, format!("needs {missing}"), Some(format!("set {missing} too")));
            }
        }
        self
    }
}
