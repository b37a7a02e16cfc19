//! The admin listener: probes, status, metrics and, if enabled, chaos commands.

use std::net::{IpAddr, Ipv4Addr};

use crate::schema::{Section, key};
use crate::section::section;
use crate::value_type::{Address, Domain, Flag, list, whole};

section! {
    /// The admin listener.
    pub struct AdminConfig {
        /// IP address on which the admin listener listens
        ///
        /// The admin listener has no authentication: use a loopback address, or a network that only operators reach.
        pub address: IpAddr = key("address", Address, IpAddr::V4(Ipv4Addr::LOCALHOST));
        /// port of the admin listener; 0 uses any free port, which the log line at the start names
        pub port: u16 = key("port", whole(0..=65_535), 8090);
        /// host names accepted in `Host`, besides the listener's addresses and `localhost`; others get 403
        ///
        /// List the name by which Prometheus scrapes the gateway, without a port. The check stops DNS rebinding: a web page that
        /// reaches the listener through a name of its own. Probes accept any `Host`.
        pub hosts: Vec<String> = key("hosts", list(Domain), Vec::new());
        /// enables the commands that crash or stall actors and requests on purpose
        ///
        /// For drills only. It needs a loopback `admin.address`.
        pub chaos: bool = key("chaos", Flag, false);
    }
}

impl AdminConfig {
    /// Rejects chaos on an address that other machines reach: the listener has no authentication.
    pub(crate) fn checked(self, section: &mut Section<'_>) -> Self {
        if self.chaos && !self.address.to_canonical().is_loopback() {
            let address = section.full_key("address");
            let message = format!("needs a loopback address, and {address} is {}", self.address);
            let hint = format!("set it to false, or set {address} to 127.0.0.1");
            section.refuse("chaos", message, Some(hint));
        }
        self
    }
}
