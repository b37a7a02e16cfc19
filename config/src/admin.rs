//! The admin listener: probes, status, metrics and, where asked for, chaos.

use std::net::{IpAddr, Ipv4Addr};

use crate::form::{Address, Flag, whole};
use crate::section::section;
use crate::walk::key;

section! {
    /// The admin listener.
    pub struct AdminConfig {
        /// address the admin listener binds
        ///
        /// It has no authentication: keep it on loopback or on a network only operators reach.
        pub address: IpAddr = key("address", Address, IpAddr::V4(Ipv4Addr::LOCALHOST));
        /// port of the admin listener; 0 takes any free one, which the start-up line names
        pub port: u16 = key("port", whole(0..=65_535), 8090);
        /// whether actors and requests can be crashed or stalled on purpose through the admin listener
        ///
        /// For drills only.
        pub chaos: bool = key("chaos", Flag, false);
    }
}
