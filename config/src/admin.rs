//! The admin listener: probes, status, metrics and, where asked for, chaos.

use std::net::{IpAddr, Ipv4Addr};

use crate::form::{Address, Domain, Flag, list, whole};
use crate::section::section;
use crate::walk::{Section, key};

section! {
    /// The admin listener.
    pub struct AdminConfig {
        /// address the admin listener binds
        ///
        /// It has no authentication: keep it on loopback or on a network only operators reach.
        pub address: IpAddr = key("address", Address, IpAddr::V4(Ipv4Addr::LOCALHOST));
        /// port of the admin listener; 0 takes any free one, which the start-up line names
        pub port: u16 = key("port", whole(0..=65_535), 8090);
        /// names that the admin listener accepts as `Host`, besides its addresses and `localhost`; any other `Host` gets 403
        ///
        /// Name what Prometheus scrapes by, without a port. A web page could reach the listener through another name, which it has
        /// resolve to this address (DNS rebinding). Probes take any `Host`.
        pub hosts: Vec<String> = key("hosts", list(Domain), Vec::new());
        /// whether actors and requests can be crashed or stalled on purpose through the admin listener
        ///
        /// For drills only, and on a loopback `admin.address` only.
        pub chaos: bool = key("chaos", Flag, false);
    }
}

impl AdminConfig {
    /// Refuses chaos where other machines could ask for it: the listener has no authentication.
    pub(crate) fn checked(self, section: &mut Section<'_>) -> Self {
        if self.chaos && !self.address.to_canonical().is_loopback() {
            let message = format!("is on, and {} is not a loopback address", self.address);
            let hint = format!("turn it off, or set {} to 127.0.0.1", section.spell("address"));
            section.refuse("chaos", message, Some(hint));
        }
        self
    }
}
