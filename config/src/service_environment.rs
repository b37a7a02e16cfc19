//! The variables of a service manager (systemd): sockets that it passes, notifications, the watchdog.
//!
//! They are no configuration keys. Sources: sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3).

use std::env;
use std::ffi::OsString;
use std::time::Duration;

/// The variables of a service manager.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceEnvironment {
    /// The address of the socket that receives notifications (`NOTIFY_SOCKET`).
    pub notify_socket: Option<OsString>,
    /// The service manager restarts a process that sends no ping for this time (`WATCHDOG_USEC`).
    pub watchdog: Option<Duration>,
    /// The number of descriptors that are passed (`LISTEN_FDS`), as it is written.
    pub descriptors: Option<String>,
    /// Their names (`LISTEN_FDNAMES`), in the order of the descriptors. Empty if none has a name.
    pub names: Vec<String>,
}

impl ServiceEnvironment {
    /// Reads the variables of this process. Those for another process are ignored: a child inherits the variables of its parent.
    #[must_use]
    pub fn read() -> Self {
        Self::from_variables(|name| env::var_os(name), std::process::id())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<OsString>, pid: u32) -> Self {
        let text = |name: &str| {
            let value = variable(name).filter(|value| !value.is_empty());
            value.map(|value| value.to_string_lossy().into_owned())
        };
        let names_pid = |name: &str| text(name).map(|value| value.trim().parse() == Ok(pid));
        let watchdog = text("WATCHDOG_USEC").and_then(|value| value.trim().parse().ok());
        let watchdog = watchdog.filter(|usec| *usec > 0).map(Duration::from_micros);
        let mut read = Self {
            notify_socket: variable("NOTIFY_SOCKET").filter(|value| !value.is_empty()),
            // Without a process ID the watchdog is for every process that reads the variable.
            watchdog: watchdog.filter(|_| names_pid("WATCHDOG_PID").unwrap_or(true)),
            ..Self::default()
        };
        if names_pid("LISTEN_PID").unwrap_or(false) {
            read.descriptors = text("LISTEN_FDS");
            let names = text("LISTEN_FDNAMES").unwrap_or_default();
            read.names = names.split(':').filter(|_| !names.is_empty()).map(str::to_owned).collect();
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> ServiceEnvironment {
        let variable = |name: &str| {
            let found = variables.iter().find(|(set, _)| *set == name);
            found.map(|(_, value)| OsString::from(value))
        };
        ServiceEnvironment::from_variables(variable, 7)
    }

    /// G8: descriptors are those of the process that LISTEN_PID names, so a child never takes its parent's
    #[test]
    fn descriptors_belong_to_the_named_process() {
        let passed = read(&[("LISTEN_PID", "7"), ("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "data:admin")]);
        assert_eq!(passed.descriptors.as_deref(), Some("2"));
        assert_eq!(passed.names, ["data", "admin"]);
        let foreign = [("LISTEN_PID", "8"), ("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "data:admin")];
        assert_eq!(read(&foreign), ServiceEnvironment::default());
        assert_eq!(read(&[("LISTEN_FDS", "2")]), ServiceEnvironment::default(), "for nobody");
        let unnamed = read(&[("LISTEN_PID", "7"), ("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "")]);
        assert_eq!((unnamed.descriptors.as_deref(), unnamed.names.len()), (Some("1"), 0));
    }

    /// G8: the watchdog is for the process that WATCHDOG_PID names, and for every process without it
    #[test]
    fn the_watchdog_belongs_to_the_named_process() {
        let interval = Some(Duration::from_secs(2));
        assert_eq!(read(&[("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", "7")]).watchdog, interval);
        assert_eq!(read(&[("WATCHDOG_USEC", "2000000")]).watchdog, interval);
        assert_eq!(read(&[("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", "8")]).watchdog, None);
        assert_eq!(read(&[("WATCHDOG_USEC", "0")]).watchdog, None);
        assert_eq!(read(&[("WATCHDOG_USEC", "soon")]).watchdog, None);
    }
}
