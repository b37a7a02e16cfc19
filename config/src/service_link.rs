//! Environment variables that Kubernetes sets for Services ("service links", the format of Docker's links).
//!
//! For a Service `tidegate`, or one with a name such as `tidegate-admin`, each pod of the namespace gets `TIDEGATE_SERVICE_HOST`,
//! `TIDEGATE_SERVICE_PORT`, `TIDEGATE_PORT=tcp://10.0.0.1:8080`, `TIDEGATE_PORT_8080_TCP_ADDR` and so on. They have the prefix of
//! tidegate's own variables and are ignored. A variable is recognised by the exact format of its name and value, and a bare port
//! number only if the address of the same Service is set too: `TIDEGATE_PORT=8080` is a mistake of the user and stays an error.
//!
//! Source: kubernetes.io/docs/tutorials/services/connect-applications-service, "Environment Variables".

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use crate::setting::VARIABLE_PREFIX;

const PROTOCOLS: [&str; 3] = ["tcp", "udp", "sctp"];

/// The names of the variables that Kubernetes set.
pub(crate) fn find(variables: &[(String, String)]) -> BTreeSet<String> {
    let host_of = |(name, value): &(String, String)| {
        let service = name.strip_suffix("SERVICE_HOST")?;
        (is_service(service) && is_address(value)).then(|| service.to_owned())
    };
    let services: BTreeSet<String> = variables.iter().filter_map(host_of).collect();
    let is_link = |name: &str, value: &str| {
        is_service_host(name, value) || is_service_port(name, value, &services) || is_port_link(name, value)
    };
    variables.iter().filter(|(name, value)| is_link(name, value)).map(|(name, _)| name.clone()).collect()
}

/// `TIDEGATE_`, or `TIDEGATE_` with the rest of a Service's name and an underscore.
fn is_service(prefix: &str) -> bool {
    prefix == VARIABLE_PREFIX
        || (prefix.starts_with(VARIABLE_PREFIX) && prefix.ends_with('_') && !prefix.contains("__"))
}

fn is_address(value: &str) -> bool {
    value.parse::<IpAddr>().is_ok()
}

fn is_port(value: &str) -> bool {
    value.bytes().all(|byte| byte.is_ascii_digit()) && value.parse::<u16>().is_ok()
}

fn is_url(value: &str) -> bool {
    let parts = value.split_once("://");
    parts.is_some_and(|(scheme, address)| {
        PROTOCOLS.contains(&scheme)
            && (address.parse::<SocketAddr>().is_ok() || is_bare_ipv6_with_port(address))
    })
}

/// Kubernetes writes IPv6 addresses with or without brackets, depending on its version.
fn is_bare_ipv6_with_port(address: &str) -> bool {
    address.rsplit_once(':').is_some_and(|(ip, port)| is_address(ip) && is_port(port))
}

fn is_service_host(name: &str, value: &str) -> bool {
    name.strip_suffix("SERVICE_HOST").is_some_and(is_service) && is_address(value)
}

/// `…SERVICE_PORT` and `…SERVICE_PORT_HTTP`, if the address of the Service is set.
fn is_service_port(name: &str, value: &str, services: &BTreeSet<String>) -> bool {
    let belongs = |service: &String| {
        let rest = name.strip_prefix(service.as_str()).and_then(|rest| rest.strip_prefix("SERVICE_PORT"));
        rest.is_some_and(|rest| rest.is_empty() || (rest.starts_with('_') && !rest.contains("__")))
    };
    is_port(value) && services.iter().any(belongs)
}

/// `…PORT=tcp://…`, `…PORT_8080_TCP=tcp://…`, and the latter with `_PROTO`, `_PORT` or `_ADDR`.
fn is_port_link(name: &str, value: &str) -> bool {
    if is_url(value) && name.strip_suffix("PORT").is_some_and(is_service) {
        return true;
    }
    let Some((_, rest)) = name.rsplit_once("PORT_").filter(|(service, _)| is_service(service)) else {
        return false;
    };
    let mut words = rest.split('_');
    let (Some(port), Some(protocol)) = (words.next(), words.next()) else { return false };
    let Some(protocol) = PROTOCOLS.iter().find(|known| known.to_uppercase() == protocol) else {
        return false;
    };
    if !is_port(port) {
        return false;
    }
    match (words.next(), words.next()) {
        (None, None) => is_url(value) && value.starts_with(protocol),
        (Some("PROTO"), None) => value == *protocol,
        (Some("PORT"), None) => value == port,
        (Some("ADDR"), None) => is_address(value),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignored(variables: &[(&str, &str)]) -> Vec<String> {
        let owned: Vec<_> =
            variables.iter().map(|(name, value)| (format!("TIDEGATE_{name}"), (*value).to_owned())).collect();
        find(&owned).into_iter().collect()
    }

    /// G1
    #[test]
    fn the_links_of_a_service_are_recognised() {
        for service in ["", "ADMIN_"] {
            let links = [
                ("SERVICE_HOST", "10.96.0.7"),
                ("SERVICE_PORT", "8080"),
                ("SERVICE_PORT_HTTP", "8080"),
                ("SERVICE_PORT_HTTP_ALT", "8081"),
                ("PORT", "tcp://10.96.0.7:8080"),
                ("PORT_8080_TCP", "tcp://10.96.0.7:8080"),
                ("PORT_8080_TCP_PROTO", "tcp"),
                ("PORT_8080_TCP_PORT", "8080"),
                ("PORT_8080_TCP_ADDR", "10.96.0.7"),
                ("PORT_53_UDP", "udp://[fd00::7]:53"),
            ];
            let named: Vec<_> =
                links.iter().map(|(name, value)| (format!("{service}{name}"), *value)).collect();
            let variables: Vec<_> = named.iter().map(|(name, value)| (name.as_str(), *value)).collect();
            assert_eq!(ignored(&variables).len(), links.len(), "{service}");
        }
    }

    /// G1: a mistake of the user is not hidden
    #[test]
    fn other_variables_are_not_ignored() {
        for (name, value) in [
            ("PORT", "8080"),
            ("ADMIN_PORT", "8090"),
            ("SERVER_PORT", "8080"),
            ("SERVICE_PORT", "8080"),
            ("SERVICE_HOST", "store.example.com"),
            ("SERVER__PORT", "tcp://10.0.0.1:80"),
            ("BUCKETS__PORT", "tcp://10.0.0.1:80"),
            ("PORT_8080_TCP", "8080"),
            ("PORT_8080_TCP_PORT", "8081"),
            ("PORT_8080_TCP_PROTO", "udp"),
            ("PORT_X_TCP_ADDR", "10.0.0.1"),
            ("PORT_8080_HTTP_ADDR", "10.0.0.1"),
            ("PORT_8080_TCP_ADDR_X", "10.0.0.1"),
            ("PORT", "http://10.0.0.1:8080"),
        ] {
            assert!(ignored(&[(name, value)]).is_empty(), "{name}={value}");
        }
    }
}
