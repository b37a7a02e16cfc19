//! How the process of a gateway is launched: with limits, or with sockets that are open already.

use std::net::SocketAddr;
use std::os::fd::AsFd;

use super::gateway::Builder;
use super::{Client, Gateway};

/// The launcher of systemd that opens sockets and executes a program at the first connection.
const SOCKET_ACTIVATE: &str = "/usr/bin/systemd-socket-activate";

impl Builder {
    /// Starts it with these limits, in the syntax of the shell's `ulimit`.
    pub(crate) fn ulimit(mut self, options: &str) -> Self {
        self.launcher = Some(format!("ulimit {options} && exec"));
        self
    }

    /// Passes a descriptor once for each of these names, as a service manager does. An empty name is none. The sockets are the
    /// descriptors 3 and higher of the process, and LISTEN_PID is its own ID.
    pub(crate) fn pass(mut self, descriptor: impl AsFd, names: &[&str]) -> Self {
        let open: String = (0..names.len()).map(|at| format!("{}<&0 ", 3 + at)).collect();
        let launcher = format!(
            "exec {open} </dev/null && export LISTEN_PID=$$ LISTEN_FDS={} LISTEN_FDNAMES={} && exec",
            names.len(),
            names.join(":")
        );
        self.stdin = Some(descriptor.as_fd().try_clone_to_owned().unwrap());
        self.launcher = Some(launcher);
        self
    }

    /// Starts it by a connection to the first address, which is the data listener's. The client has this connection.
    pub(crate) async fn start_by_connection(
        mut self,
        (data, admin): (SocketAddr, SocketAddr),
        names: &str,
    ) -> (Gateway, Client) {
        let variables: String = self.environment.iter().map(|(name, _)| format!("-E {name} ")).collect();
        let sockets = format!("-l {data} -l {admin} --fdname={names}");
        self.launcher = Some(format!("exec {SOCKET_ACTIVATE} {variables} {sockets}"));
        let mut gateway = self.spawn();
        let client = super::wait_for("the launcher listens", || async {
            let stream = tokio::net::TcpStream::connect(data).await.ok()?;
            Some(Client::new(stream))
        })
        .await;
        gateway.wait_for_log_line("listening", |_| true).await;
        (gateway.data, gateway.admin) = (data, admin);
        (gateway, client)
    }
}
