//! The admin listener: its address, who may use it, its limits, and chaos commands.
//!
//! On an address that other machines reach, the start needs a token or mutual TLS. Chaos stays refused there even with
//! them: a leaked token must not be able to crash actors.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroUsize;

use crate::admin_tls::AdminTlsConfig;
use crate::bucket::Secret;
use crate::schema::{Section, key, nested_checked, unset};
use crate::secret_file::SecretFromFile;
use crate::section::section;
use crate::value_type::{Address, Domain, Flag, SecretText, list, nonzero_size, whole};

/// A token is the only proof, and its attacker may try for years.
const TOKEN_BYTES_MIN: usize = 32;
const OPERATOR: [&str; 2] = ["token", "token_file"];
const READER: [&str; 2] = ["read_token", "read_token_file"];

section! {
    /// The admin listener.
    pub struct AdminConfig {
        /// IP address on which the admin listener listens
        ///
        /// On any other than a loopback address the gateway starts only with a token or with `admin.tls.client_ca_file`.
        pub address: IpAddr = key("address", Address, IpAddr::V4(Ipv4Addr::LOCALHOST));
        /// port of the admin listener; 0 uses any free port, which the log line at the start names
        pub port: u16 = key("port", whole(0..=65_535), 8090);
        /// host names accepted in `Host`, besides the listener's addresses and `localhost`; others get 403
        ///
        /// List the name by which Prometheus scrapes the gateway, without a port. The check stops DNS rebinding: a web page that
        /// reaches the listener through a name of its own. Probes accept any `Host`.
        pub hosts: Vec<String> = key("hosts", list(Domain), Vec::new());
        /// token of operators, who may do everything; sent as `Authorization: Bearer TOKEN`
        ///
        /// At least 32 characters of printable ASCII without blanks. With any token set, all requests but probes need one.
        token: Option<Secret> = unset("token", SecretText, "no token");
        /// file that holds the token of operators, instead of `token`
        token_file: Option<Secret> = unset("token_file", SecretFromFile, "no token");
        /// token that may read all that the listener shows and change nothing, for scrapers and dashboards
        ///
        /// That is the status, metrics, the configuration without secrets, and decisions with addresses and names of clients.
        read_token: Option<Secret> = unset("read_token", SecretText, "no token");
        /// file that holds the reading token, instead of `read_token`
        read_token_file: Option<Secret> = unset("read_token_file", SecretFromFile, "no token");
        /// maximum of open connections; four more serve only probes and `/status`
        ///
        /// Beyond it, the connection that has been idle longest closes. If none is idle, other requests get 503. The
        /// maximum is lower if descriptors are few.
        pub max_connections: NonZeroUsize = key("max_connections", whole(1..=1_024), nonzero_size(64));
        /// maximum of open event streams (`/status/stream`); they do not count for `max_connections`
        ///
        /// Each stream holds a descriptor and up to about 100 KiB while its client does not read. Further clients get 503. The
        /// maximum is lower if descriptors are few. 0 switches the streams off.
        pub max_stream_clients: usize = key("max_stream_clients", whole(0..=2_000), 16);
        /// enables the commands that crash or stall actors and requests on purpose
        ///
        /// For drills only. It needs a loopback `admin.address`, with or without tokens.
        pub chaos: bool = key("chaos", Flag, false);
        /// TLS on the admin listener
        pub tls: AdminTlsConfig = nested_checked("tls", AdminTlsConfig::checked);
    }
}

impl AdminConfig {
    /// The token of operators, from whichever of its two keys is set.
    pub fn operator_token(&self) -> Option<&Secret> {
        self.token.as_ref().or(self.token_file.as_ref())
    }

    /// The token that may only read.
    pub fn read_token(&self) -> Option<&Secret> {
        self.read_token.as_ref().or(self.read_token_file.as_ref())
    }

    /// Rejects weak and equal tokens, an address that other machines reach without authentication, and chaos on such an address.
    pub(crate) fn checked(self, section: &mut Section<'_>) -> Self {
        section.refuse_both(OPERATOR);
        section.refuse_both(READER);
        check_token(self.operator_token(), OPERATOR, section);
        check_token(self.read_token(), READER, section);
        if let (Some(operator), Some(reader)) = (self.operator_token(), self.read_token())
            && operator == reader
        {
            let message = format!("has the same value as {}", section.full_key(set_key(OPERATOR, section)));
            let hint = "give each its own token: a scraper must not be able to change anything".to_owned();
            section.refuse(set_key(READER, section), message, Some(hint));
        }
        self.check_address(section);
        self
    }

    fn check_address(&self, section: &mut Section<'_>) {
        if self.address.to_canonical().is_loopback() {
            return;
        }
        let address = section.full_key("address");
        if self.chaos {
            let message = format!("needs a loopback address, and {address} is {}", self.address);
            let hint = format!("set it to false, or set {address} to 127.0.0.1");
            section.refuse("chaos", message, Some(hint));
        }
        // A key that is set and invalid has its own problem.
        let is_protected = OPERATOR.iter().chain(&READER).any(|name| section.is_set(name))
            || section.child("tls").is_set("client_ca_file");
        if !is_protected {
            let message = format!(
                "{} is not a loopback address, and nothing protects the admin listener",
                self.address
            );
            let hint = format!(
                "set {} or {} to a token, or {} for mutual TLS, or set {address} to 127.0.0.1",
                section.full_key(OPERATOR[0]),
                section.full_key(OPERATOR[1]),
                section.child("tls").full_key("client_ca_file"),
            );
            section.refuse("address", message, Some(hint));
        }
    }
}

/// The one of these keys that is set.
fn set_key(names: [&'static str; 2], section: &Section<'_>) -> &'static str {
    if section.is_set(names[0]) { names[0] } else { names[1] }
}

fn check_token(token: Option<&Secret>, names: [&'static str; 2], section: &mut Section<'_>) {
    let Some(text) = token.map(Secret::expose) else { return };
    let name = set_key(names, section);
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let hint = "openssl rand -hex 32 prints a strong token".to_owned();
        section.refuse(name, "has characters that are not printable ASCII", Some(hint));
    } else if text.len() < TOKEN_BYTES_MIN {
        section.refuse_short_secret(name, TOKEN_BYTES_MIN);
    }
}
