//! TLS on the data listener: which certificate, and what is offered with it.
//!
//! Both files are read at the start, so that a missing one stops it there; they stay named, so that they can be read
//! again when they change. One certificate serves all names: put every name into it. Deliberately absent: certificates by the
//! name a client asks for, client certificates, a choice of ciphers or of versions below 1.2, and a cleartext port beside.

use std::time::Duration;

use crate::bucket::{Pem, PemIn};
use crate::form::{Flag, seconds};
use crate::secret_file::{SecretFile, SecretPath};
use crate::section::section;
use crate::walk::{Section, key, unset};

section! {
    /// TLS towards clients.
    pub struct ServerTlsConfig {
        /// file of the gateway's certificate (PEM), followed by those between it and the authority; with it the data listener speaks TLS alone
        pub certificate_file: Option<Pem> = unset("certificate_file", PemIn, "cleartext");
        /// file of the certificate's private key (PEM, not encrypted)
        pub private_key_file: Option<SecretFile> = unset("private_key_file", SecretPath, "cleartext");
        /// whether HTTP/2 is offered beside HTTP/1.1
        pub http2: bool = key("http2", Flag, true);
        /// how often the two files are looked at; new ones serve new connections, and SIGHUP has them read at once
        pub reload_interval: Duration =
            key("reload_interval", seconds(0.01..=86_400.0), Duration::from_secs(10));
    }
}

impl ServerTlsConfig {
    /// The certificate and its key, where clients speak TLS.
    pub fn files(&self) -> Option<(&Pem, &SecretFile)> {
        self.certificate_file.as_ref().zip(self.private_key_file.as_ref())
    }

    /// A certificate is of no use without its key, and a key without its certificate.
    pub(crate) fn checked(self, section: &mut Section<'_>) -> Self {
        let pair = ["certificate_file", "private_key_file"];
        for (set, missing) in [(pair[0], pair[1]), (pair[1], pair[0])] {
            if section.is_set(set) && !section.is_set(missing) {
                let hint = format!("set {} too", section.spell(missing));
                section.refuse(set, "is one half of a pair", Some(hint));
            }
        }
        self
    }
}
