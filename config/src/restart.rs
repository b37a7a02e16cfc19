//! The keys that take effect only at a start, each with its reason. All other keys can change while the gateway runs.
//!
//! The table is checked by a reload, and `docs/configuration.md` shows it per key.

/// Which changes of a key need a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RestartRule {
    /// each change
    Always,
    /// that from no value to a value, and back
    Switched,
}

/// Keys, and sections with all their keys.
const RESTART: [(&str, RestartRule, &str); 19] = [
    ("server.address", RestartRule::Always, SOCKETS),
    ("server.port", RestartRule::Always, SOCKETS),
    ("server.workers", RestartRule::Always, "the worker threads are started once"),
    ("server.tls.certificate_file", RestartRule::Switched, PROTOCOL),
    ("server.tls.private_key_file", RestartRule::Switched, PROTOCOL),
    ("server.write_stall_timeout", RestartRule::Always, SOCKETS),
    ("server.buffer_budget", RestartRule::Always, "open transfers hold shares of the budget"),
    ("admin.address", RestartRule::Always, SOCKETS),
    ("admin.port", RestartRule::Always, SOCKETS),
    ("admin.tls.certificate_file", RestartRule::Switched, PROTOCOL),
    ("admin.tls.private_key_file", RestartRule::Switched, PROTOCOL),
    ("admin.max_connections", RestartRule::Always, DESCRIPTORS),
    ("admin.max_stream_clients", RestartRule::Always, DESCRIPTORS),
    ("monitor.descriptor_limit", RestartRule::Always, DESCRIPTORS),
    ("metrics.namespace", RestartRule::Always, SERIES),
    ("metrics.buckets", RestartRule::Always, SERIES),
    ("log.output", RestartRule::Always, "the output is opened once; SIGUSR1 opens the same file again"),
    ("log.format", RestartRule::Always, "one log has one format"),
    ("log.decision_memory", RestartRule::Always, "the memory of decisions has a fixed size"),
];
/// The section of the supervision, which no reload changes.
const SUPERVISION: (&str, &str) = ("supervision", "running actors keep their mailboxes and restart budgets");

const SOCKETS: &str = "the listening sockets are opened once";
const PROTOCOL: &str = "a listener speaks either TLS or cleartext";
const DESCRIPTORS: &str = "the file descriptors are shared out once";
const SERIES: &str = "the series of a process keep their names and bounds";

/// Why a change of a key needs a restart; none if the key can change while the gateway runs. `is_switched`: only one of both
/// configurations has a value for the key.
pub fn restart_reason(key: &str, is_switched: bool) -> Option<&'static str> {
    if key.strip_prefix(SUPERVISION.0).is_some_and(|rest| rest.starts_with('.')) {
        return Some(SUPERVISION.1);
    }
    let (_, rule, reason) = RESTART.iter().find(|(name, ..)| *name == key)?;
    (*rule == RestartRule::Always || is_switched).then_some(*reason)
}

/// What a change of a key takes, as the reference shows it.
pub(crate) fn documented_change(key: &str) -> &'static str {
    match (restart_reason(key, false), restart_reason(key, true)) {
        (Some(_), _) => "restart",
        (None, Some(_)) => "reload; on or off: restart",
        (None, None) => "reload",
    }
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
        for (name, ..) in RESTART {
            assert!(keys.contains(name), "{name}");
        }
        assert!(keys.iter().any(|key| restart_reason(key, false) == Some(SUPERVISION.1)));
    }

    /// G3, G6: what the reference shows for the three kinds of keys
    #[test]
    fn a_key_has_its_kind_of_change() {
        assert_eq!(documented_change("server.port"), "restart");
        assert_eq!(documented_change("supervision.ask_timeout_ms"), "restart");
        assert_eq!(documented_change("server.tls.certificate_file"), "reload; on or off: restart");
        for key in ["server.keep_alive", "buckets.NAME.UPSTREAM.endpoints", "supervisions.x", "admin.token"] {
            assert_eq!(documented_change(key), "reload", "{key}");
        }
    }
}
