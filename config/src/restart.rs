//! The keys that take effect only at a start, each with its reason. All other keys can change while the gateway runs.
//!
//! The table is checked by a reload, and `docs/configuration.md` shows it per key.

/// Keys, and sections with all their keys.
const RESTART: [(&str, &str); 29] = [
    ("server.address", SOCKETS),
    ("server.port", SOCKETS),
    ("server.workers", "the worker threads are started once"),
    ("server.write_stall_timeout", SOCKETS),
    ("server.tls.certificate_file", FILES),
    ("server.tls.private_key_file", FILES),
    ("server.tls.reload_interval", FILES),
    ("server.buffer_budget", "open transfers hold shares of the budget"),
    ("admin.address", SOCKETS),
    ("admin.port", SOCKETS),
    ("admin.hosts", ADMIN_ACCESS),
    ("admin.token", ADMIN_ACCESS),
    ("admin.token_file", ADMIN_ACCESS),
    ("admin.read_token", ADMIN_ACCESS),
    ("admin.read_token_file", ADMIN_ACCESS),
    ("admin.tls.certificate_file", FILES),
    ("admin.tls.private_key_file", FILES),
    ("admin.tls.client_ca_file", FILES),
    ("admin.tls.reload_interval", FILES),
    ("reload.watch", WATCH),
    ("reload.interval", WATCH),
    ("admin.max_connections", DESCRIPTORS),
    ("admin.max_stream_clients", DESCRIPTORS),
    ("monitor.descriptor_limit", DESCRIPTORS),
    ("metrics.namespace", SERIES),
    ("metrics.buckets", SERIES),
    ("log.output", "the output is opened once; SIGUSR1 opens the same file again"),
    ("log.format", "one log has one format"),
    ("log.decision_memory", "the memory of decisions has a fixed size"),
];
/// The section of the supervision, which no reload changes.
const SUPERVISION: (&str, &str) = ("supervision", "running actors keep their mailboxes and restart budgets");

const SOCKETS: &str = "the listening sockets are opened once";
const FILES: &str = "a listener reads its TLS files again at the paths of the start";
const ADMIN_ACCESS: &str = "sessions of the admin listener belong to its tokens";
const WATCH: &str = "the files are watched from the start on";
const DESCRIPTORS: &str = "the file descriptors are shared out once";
const SERIES: &str = "the series of a process keep their names and bounds";

/// Why a change of a key needs a restart; none if the key can change while the gateway runs.
pub fn restart_reason(key: &str) -> Option<&'static str> {
    if key.strip_prefix(SUPERVISION.0).is_some_and(|rest| rest.starts_with('.')) {
        return Some(SUPERVISION.1);
    }
    RESTART.iter().find(|(name, _)| *name == key).map(|(_, reason)| *reason)
}

/// What a change of a key takes, as the reference shows it.
pub(crate) fn documented_change(key: &str) -> &'static str {
    if restart_reason(key).is_some() { "restart" } else { "reload" }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::reference;

    /// G3, G6: each row of the table is a key
    #[test]
    fn the_table_names_keys() {
        let keys: BTreeSet<String> = reference::keys().iter().map(ToString::to_string).collect();
        for (name, _) in RESTART {
            assert!(keys.contains(name), "{name}");
        }
        assert!(keys.iter().any(|key| restart_reason(key) == Some(SUPERVISION.1)));
    }

    /// G3, G6: what the reference shows for both kinds of keys
    #[test]
    fn a_key_has_its_kind_of_change() {
        assert_eq!(documented_change("server.port"), "restart");
        assert_eq!(documented_change("supervision.ask_timeout_ms"), "restart");
        for key in ["server.keep_alive", "buckets.NAME.UPSTREAM.endpoints", "supervisions.x"] {
            assert_eq!(documented_change(key), "reload", "{key}");
        }
    }
}
