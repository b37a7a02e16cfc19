//! TLS on the data listener.
//!
//! Both files are read at the start, so a missing file stops the start. Their paths are kept, so that the gateway can read them
//! again when they change. One certificate must hold all names. Not supported: certificates by SNI, client certificates, a choice
//! of ciphers, versions below 1.2, and a second port without TLS.

use std::time::Duration;

use crate::bucket::{Pem, PemFromFile};
use crate::schema::{Section, key, unset};
use crate::secret_file::{SecretFile, SecretPath};
use crate::section::section;
use crate::value_type::{Flag, seconds};

section! {
    /// TLS towards clients.
    pub struct ServerTlsConfig {
        /// PEM file of the certificate and its intermediates; with it the data listener accepts TLS only
        pub certificate_file: Option<Pem> = unset("certificate_file", PemFromFile, "cleartext");
        /// PEM file of the certificate's private key, not encrypted
        pub private_key_file: Option<SecretFile> = unset("private_key_file", SecretPath, "cleartext");
        /// offers HTTP/2 besides HTTP/1.1
        pub http2: bool = key("http2", Flag, true);
        /// interval at which the two files are checked for changes
        ///
        /// A new certificate applies to new connections. SIGHUP reloads the files at once.
        pub reload_interval: Duration =
            key("reload_interval", seconds(0.01..=86_400.0), Duration::from_secs(10));
    }
}

impl ServerTlsConfig {
    /// The certificate and its private key, if TLS is on.
    pub fn files(&self) -> Option<(&Pem, &SecretFile)> {
        self.certificate_file.as_ref().zip(self.private_key_file.as_ref())
    }

    /// Rejects a certificate without its private key, and the reverse.
    pub(crate) fn checked(self, section: &mut Section<'_>) -> Self {
        let pair = ["certificate_file", "private_key_file"];
        for (set, missing) in [(pair[0], pair[1]), (pair[1], pair[0])] {
            if section.is_set(set) && !section.is_set(missing) {
                let missing = section.full_key(missing);
                section.refuse(set, format!("needs {missing}"), Some(format!("set {missing} too")));
            }
        }
        self
    }
}
