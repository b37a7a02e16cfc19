//! The configuration of tidegate for a comparison bench with upstreams on fixed ports.

use std::net::SocketAddr;
use std::path::Path;

use crate::gateway::{BucketSpec, GatewayLocation, configuration};
use crate::guards;

/// Buckets and the ports of their upstreams: two static ones, an upload sink, and faulty ones.
const BUCKETS: [(&str, u16); 9] = [
    ("s", 19_000),
    ("a", 19_000),
    ("sink", 19_001),
    ("e503", 19_002),
    ("hang", 19_003),
    ("slow", 19_004),
    ("rst", 19_005),
    (CAPPED, 19_006),
    ("flap", 19_007),
];
/// The upstream of limited capacity.
const CAPPED: &str = "cap";
/// Offset of the admin port from the data port.
const ADMIN_AFTER: u16 = 5;

/// The configuration as TOML.
pub(crate) fn text(port: u16, log: &Path) -> String {
    let guards = BUCKETS.map(|(name, _)| guards::bucket(name == CAPPED));
    let buckets: Vec<_> = BUCKETS
        .iter()
        .zip(&guards)
        .map(|(&(name, upstream), settings)| {
            let endpoint = SocketAddr::from(([127, 0, 0, 1], upstream));
            BucketSpec { name, endpoints: vec![endpoint], settings }
        })
        .collect();
    let location = GatewayLocation { port, admin_port: port.saturating_add(ADMIN_AFTER), log };
    configuration(&location, &buckets, &guards::gateway()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_toml_with_every_bucket_guarded() {
        let all: toml::Table = toml::from_str(&text(18_070, Path::new("x.log"))).unwrap();
        assert_eq!(all["admin"]["port"].as_integer(), Some(18_075));
        assert_eq!(all["rate_limit"]["per_ip"]["burst"].as_integer(), Some(1_000_000));
        let buckets = all["buckets"].as_table().unwrap();
        assert_eq!(buckets.len(), 9);
        for (name, bucket) in buckets {
            let concurrent = bucket["s3"]["concurrency"]["max_concurrent"].as_integer();
            assert_eq!(concurrent, Some(if name == "cap" { 10 } else { 1_024 }), "{name}");
            assert!(bucket["s3"].get("access_key_id").is_none());
        }
        assert_eq!(buckets["flap"]["s3"]["endpoints"][0].as_str(), Some("http://127.0.0.1:19007"));
    }
}
