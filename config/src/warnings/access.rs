//! Warnings about access: buckets without possible clients, authentication without effect, open listeners.

use crate::bucket::{AuthMethod, BreakerMode, BucketConfig};
use crate::schema::Section;
use crate::{Config, Network};

pub(super) fn find(root: &mut Section<'_>, config: &Config) {
    admin(root, config);
    for (name, bucket) in &config.buckets {
        closed(root, config, name, bucket);
        open(root, name, bucket);
        upstream(root, config, name, bucket);
    }
    unused(root, config);
    let everybody = |network: &&Network| network.is_any();
    if let Some(network) = config.server.trusted_proxies.iter().find(everybody) {
        let message = format!("{network} allows every client to set its own address");
        let hint = "list only the networks of your proxies".to_owned();
        root.child("server").warn("trusted_proxies", message, hint);
    }
}

fn admin(root: &mut Section<'_>, config: &Config) {
    let mut section = root.child("admin");
    if config.admin.chaos {
        let message = "is on: every client of the admin listener can crash actors and requests";
        section.warn("chaos", message, "set it to false except for drills".to_owned());
    }
    let (address, tls) = (config.admin.address, &config.admin.tls);
    if !address.to_canonical().is_loopback() && tls.files().is_none() {
        let message =
            format!("{address} is not a loopback address: tokens and status cross the network in cleartext");
        let hint = format!(
            "set {} and its private key, or let only trusted networks reach it",
            section.child("tls").full_key("certificate_file")
        );
        section.warn("address", message, hint);
    }
}

/// A bucket that refuses every client (A4): it accepts no method, or only methods without keys.
fn closed(root: &mut Section<'_>, config: &Config, name: &str, bucket: &BucketConfig) {
    let has_no_keys = |method: &AuthMethod| match method {
        AuthMethod::Sigv4 | AuthMethod::Sigv2 => config.keys.is_empty(),
        AuthMethod::ApiKey => config.api_keys.is_empty(),
        // a missing section `jwt` is an error, not a warning
        AuthMethod::Jwt | AuthMethod::Anonymous => false,
    };
    if !bucket.auth.iter().all(has_no_keys) {
        return;
    }
    let mut section = root.within(&["buckets", name]);
    // sigv2 is only listed together with sigv4, and needs the same keys
    let methods: Vec<_> = bucket.auth.iter().filter(|method| **method != AuthMethod::Sigv2).collect();
    let (why, hint) = match methods[..] {
        [] => {
            let hint = format!(
                "set {} to [\"sigv4\"] for client keys, or to [\"anonymous\"] for all clients",
                section.full_key("auth")
            );
            ("is empty", hint)
        }
        [AuthMethod::Sigv4] => (
            "lists only sigv4, and no client key is defined",
            "define one with keys.ID.secret and keys.ID.policy".to_owned(),
        ),
        [AuthMethod::ApiKey] => {
            let hint = "define one with api_keys.NAME.secret and api_keys.NAME.policy".to_owned();
            ("lists only api_key, and no API key is defined", hint)
        }
        _ => (
            "lists sigv4 and api_key, and no key is defined",
            "define keys with keys.ID or api_keys.NAME".to_owned(),
        ),
    };
    let message = format!("{why}: the bucket refuses every request");
    section.warn("auth", message, hint);
}

fn open(root: &mut Section<'_>, name: &str, bucket: &BucketConfig) {
    let mut section = root.within(&["buckets", name]);
    let is_open = bucket.auth.contains(&AuthMethod::Anonymous) && !section.is_set("anonymous");
    if is_open && bucket.auth.len() > 1 {
        let message = "lists anonymous, which allows all operations, so the other methods have no effect";
        let hint = format!(
            "set {} to the operations of anonymous clients, such as [\"read\"]",
            section.full_key("anonymous")
        );
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
        let message =
            format!("has no effect: no URL of {} begins with https://", section.full_key("endpoints"));
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
        section.warn(
            "endpoints",
            message,
            "set it to the store, or set server.port to another port".to_owned(),
        );
    }
}

/// Keys and tokens that no bucket accepts.
fn unused(root: &mut Section<'_>, config: &Config) {
    if config.buckets.is_empty() {
        return;
    }
    let accepts = |method| config.buckets.values().any(|bucket| bucket.auth.contains(&method));
    let defined = [
        ("keys", "sigv4", !config.keys.is_empty() && !accepts(AuthMethod::Sigv4)),
        ("api_keys", "api_key", !config.api_keys.is_empty() && !accepts(AuthMethod::ApiKey)),
        ("jwt", "jwt", config.jwt.is_some() && !accepts(AuthMethod::Jwt)),
    ];
    for (section, method, _) in defined.into_iter().filter(|(_, _, is_unused)| *is_unused) {
        let hint = format!("add {method} to buckets.NAME.auth");
        root.warn(section, format!("has no effect: no bucket lists {method} in its auth"), hint);
    }
}
