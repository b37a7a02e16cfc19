//! Warnings about who is let in: buckets that nobody can use, proofs that guard nothing, listeners and switches that are open.

use crate::bucket::{AuthMethod, BreakerMode, BucketConfig};
use crate::walk::Section;
use crate::{Config, Network};

pub(super) fn find(root: &mut Section<'_>, config: &Config) {
    admin(root, config);
    for (name, bucket) in &config.buckets {
        closed(root, config, name, bucket);
        open(root, name, bucket);
        upstream(root, config, name, bucket);
    }
    unused(root, config);
    let everybody = |network: &&Network| network.is_everybody();
    if let Some(network) = config.server.trusted_proxies.iter().find(everybody) {
        let message = format!("{network} trusts every client to name its own address");
        let hint = "list the proxies between the clients and the gateway".to_owned();
        root.child("server").warn("trusted_proxies", message, hint);
    }
}

fn admin(root: &mut Section<'_>, config: &Config) {
    let mut section = root.child("admin");
    if config.admin.chaos {
        let message = "is on: whoever reaches the admin listener can crash actors and requests";
        section.warn("chaos", message, "for drills only".to_owned());
    }
    let address = config.admin.address;
    if !address.to_canonical().is_loopback() {
        let message =
            format!("{address} is not a loopback address, and the admin listener has no authentication");
        let hint = "let only operators and the scraper reach it, or set it to 127.0.0.1".to_owned();
        section.warn("address", message, hint);
    }
}

/// A bucket that refuses everybody (A4): it takes no proof, or none that anybody has.
fn closed(root: &mut Section<'_>, config: &Config, name: &str, bucket: &BucketConfig) {
    let nobody_has = |method: &AuthMethod| match method {
        AuthMethod::Sigv4 | AuthMethod::Sigv2 => config.keys.is_empty(),
        AuthMethod::ApiKey => config.api_keys.is_empty(),
        // that no tokens are believed is an error, not a warning
        AuthMethod::Jwt | AuthMethod::Anonymous => false,
    };
    if !bucket.auth.iter().all(nobody_has) {
        return;
    }
    // sigv2 never stands without sigv4, and needs the same keys.
    let methods: Vec<_> = bucket.auth.iter().filter(|method| **method != AuthMethod::Sigv2).collect();
    let (why, hint) = match methods[..] {
        [] => {
            let hint = format!(
                "buckets.{name}.auth = [\"sigv4\"] opens it to client keys, [\"anonymous\"] to everybody"
            );
            ("is empty", hint)
        }
        [AuthMethod::Sigv4] => (
            "lists sigv4 alone, and there are no keys",
            "keys.ID.secret and keys.ID.policy define one".to_owned(),
        ),
        [AuthMethod::ApiKey] => {
            let hint = "api_keys.NAME.secret and api_keys.NAME.policy define one".to_owned();
            ("lists api_key alone, and there are no API keys", hint)
        }
        _ => (
            "lists sigv4 and api_key, and there are no keys",
            "keys.ID and api_keys.NAME define them".to_owned(),
        ),
    };
    let message = format!("{why}: the bucket is closed to everybody");
    root.within(&["buckets", name]).warn("auth", message, hint);
}

fn open(root: &mut Section<'_>, name: &str, bucket: &BucketConfig) {
    let mut section = root.within(&["buckets", name]);
    let is_open = bucket.auth.contains(&AuthMethod::Anonymous) && !section.is_set("anonymous");
    if is_open && bucket.auth.len() > 1 {
        let message = "lists anonymous, which allows everything, so the other methods guard nothing";
        let hint = format!("set {} to what everybody may do, such as [\"read\"]", section.spell("anonymous"));
        section.warn("auth", message, hint);
    }
}

fn upstream(root: &mut Section<'_>, config: &Config, name: &str, bucket: &BucketConfig) {
    let mut section = root.within(&["buckets", name, bucket.kind.as_str()]);
    let upstream = &bucket.upstream;
    if upstream.circuit_breaker.mode == BreakerMode::ForcedOpen {
        let message = "is forced_open: every request is refused with 503";
        section.child("circuit_breaker").warn("mode", message, None);
    }
    let is_tls = upstream.endpoints.iter().any(crate::Endpoint::is_tls);
    if section.child("tls").is_set("ca_file") && !is_tls && upstream.container_credentials.is_none() {
        let message = format!("has no effect: no URL of {} begins with https://", section.spell("endpoints"));
        section.child("tls").warn("ca_file", message, None);
    }
    let server = &config.server;
    let is_own = |endpoint: &&crate::Endpoint| {
        let is_near = endpoint.host == "localhost"
            || endpoint.host.parse().is_ok_and(|host: std::net::IpAddr| {
                host == server.address || (host.is_loopback() && server.address.is_unspecified())
            });
        is_near && endpoint.port == server.port
    };
    if let Some(endpoint) = upstream.endpoints.iter().find(is_own) {
        let message = format!("{} is the gateway's own data listener", endpoint.url());
        section.warn("endpoints", message, "name the store, or set server.port to another".to_owned());
    }
}

/// Identities that no bucket takes.
fn unused(root: &mut Section<'_>, config: &Config) {
    if config.buckets.is_empty() {
        return;
    }
    let takes = |method| config.buckets.values().any(|bucket| bucket.auth.contains(&method));
    let defined = [
        ("keys", "sigv4", !config.keys.is_empty() && !takes(AuthMethod::Sigv4)),
        ("api_keys", "api_key", !config.api_keys.is_empty() && !takes(AuthMethod::ApiKey)),
        ("jwt", "jwt", config.jwt.is_some() && !takes(AuthMethod::Jwt)),
    ];
    for (section, method, _) in defined.into_iter().filter(|(_, _, is_unused)| *is_unused) {
        let hint = format!("list {method} in buckets.NAME.auth");
        root.warn(section, format!("has no effect: no bucket lists {method} in its auth"), hint);
    }
}
