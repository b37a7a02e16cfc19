//! Gateways with a log that the test reads itself: a pipe that it stops reading, or a file.

use std::io::{BufRead, BufReader, PipeReader, pipe};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::gateway::{Builder, Gateway};
use super::{Scratch, wait_for};

/// The addresses of both listeners in a start-up line of either format.
fn addresses(line: &str) -> (SocketAddr, SocketAddr) {
    let document: Option<Value> = serde_json::from_str(line).ok();
    let address = |field: &str| match &document {
        Some(document) => document[field].as_str().unwrap().parse().unwrap(),
        None => {
            let rest = line.split_once(&format!("{field}: ")).unwrap().1;
            rest.split([',', '\n']).next().unwrap().parse().unwrap()
        }
    };
    (address("address"), address("admin"))
}

impl Builder {
    /// Starts it with stdout and stderr on one pipe, which is read up to the start-up line and no further.
    pub(crate) async fn start_with_unread_log(self) -> (Gateway, BufReader<PipeReader>) {
        let (reader, writer) = pipe().unwrap();
        let mut command = self.command();
        command.stdout(writer.try_clone().unwrap()).stderr(writer);
        let child = command.spawn().unwrap();
        // The command holds the writing end: a reader would never get EOF.
        drop(command);
        let reading = tokio::task::spawn_blocking(move || {
            let mut reader = BufReader::with_capacity(1, reader);
            let mut line = String::new();
            while !line.contains("listening") {
                line.clear();
                assert!(reader.read_line(&mut line).unwrap() > 0, "it ended before it listened");
            }
            (reader, line)
        });
        let (reader, line) = reading.await.unwrap();
        let (data, admin) = addresses(&line);
        (Gateway::from_parts(child, data, admin, self.directory), reader)
    }

    /// Starts it and waits until this file, its `log.output`, has the start-up line.
    pub(crate) async fn start_with_log_file(self, file: &Path) -> Gateway {
        let mut gateway = self.spawn();
        let line = wait_for("it listens", || async {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            text.split_inclusive('\n')
                .find(|line| line.contains("listening") && line.ends_with('\n'))
                .map(str::to_owned)
        })
        .await;
        gateway.set_addresses(addresses(&line));
        gateway
    }
}

impl Gateway {
    fn from_parts(
        child: std::process::Child,
        data: SocketAddr,
        admin: SocketAddr,
        directory: Scratch,
    ) -> Self {
        Self { child, data, admin, lines: Arc::default(), errors: Arc::default(), directory }
    }

    fn set_addresses(&mut self, (data, admin): (SocketAddr, SocketAddr)) {
        (self.data, self.admin) = (data, admin);
    }
}
