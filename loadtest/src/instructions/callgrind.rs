//! A program under callgrind, and the instructions in its output file.
//!
//! Format of the file: <https://valgrind.org/docs/manual/cl-format.html>.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::gateway::GatewayError;
use crate::process::Process;
use crate::run::RunError;

/// A program starts about 50 times slower under callgrind.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// Callgrind writes its file at the end.
const STOP_TIMEOUT: Duration = Duration::from_secs(120);
/// glibc zeroes and copies large areas by `rep stosb`, which counts as one instruction for each byte on some processors only. With this
/// threshold it copies with ordinary instructions.
const TUNABLES: &str = "glibc.cpu.x86_rep_movsb_threshold=1073741824";

/// Instructions in user space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instructions {
    /// All of them.
    pub(super) total: u64,
    /// Those of `memset`, which depend on the processor.
    pub(super) of_memset: u64,
}

/// A program that runs under callgrind.
pub(super) struct CountedProcess {
    process: Process,
    output: PathBuf,
}

impl CountedProcess {
    /// Starts the command, and waits until it listens. Its files are in `directory`.
    pub(super) fn start(command: &Command, address: SocketAddr, directory: &Path) -> Result<Self, RunError> {
        let output = directory.join("callgrind.out");
        let mut counted = Command::new("valgrind");
        counted.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", output.display()));
        counted.arg(command.get_program()).args(command.get_args());
        counted.current_dir(directory).env("GLIBC_TUNABLES", TUNABLES);
        let mut process = Process::start(counted, directory).map_err(GatewayError::from)?;
        process.wait_for_at_most(address, START_TIMEOUT).map_err(GatewayError::from)?;
        Ok(Self { process, output })
    }

    /// Ends the program, and returns what was counted from its start.
    pub(super) fn finish(self) -> Result<Instructions, RunError> {
        self.process.stop(STOP_TIMEOUT);
        let text = fs::read_to_string(&self.output)?;
        Ok(parse(&text).ok_or_else(|| io::Error::other("callgrind wrote no summary"))?)
    }
}

/// Adds up the lines with costs of each function.
fn parse(text: &str) -> Option<Instructions> {
    let mut names: HashMap<&str, bool> = HashMap::new();
    let (mut total, mut of_memset) = (0, 0);
    let (mut is_memset, mut is_call) = (false, false);
    let mut has_summary = false;
    for line in text.lines() {
        if let Some(function) = line.strip_prefix("fn=") {
            let (id, name) = function.split_once(' ').unwrap_or((function, ""));
            // A name stands only where its ID comes first.
            is_memset = if name.is_empty() { names.get(id).copied()? } else { name.contains("memset") };
            names.insert(id, is_memset);
        } else if let Some(called) = line.strip_prefix("cfn=") {
            if let Some((id, name)) = called.split_once(' ') {
                names.insert(id, name.contains("memset"));
            }
        } else if line.starts_with("calls=") {
            is_call = true;
        } else if line.starts_with("summary:") || line.starts_with("totals:") {
            has_summary = true;
        } else if line.starts_with(|begin: char| begin.is_ascii_digit() || matches!(begin, '+' | '-' | '*')) {
            // The line after a call has the cost of the called function, which has lines of its own.
            if std::mem::take(&mut is_call) {
                continue;
            }
            let cost: u64 = line.split(' ').nth(1).and_then(|cost| cost.parse().ok()).unwrap_or(0);
            total += cost;
            of_memset += if is_memset { cost } else { 0 };
        }
    }
    has_summary.then_some(Instructions { total, of_memset })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_of_called_functions_count_once() {
        let text = "version: 1\npositions: line\nevents: Ir\n\nfn=(1) main\n16 20\ncfn=(2) __memset_avx2\ncalls=1 50\n16 400\n\
                    +1 5\n* 1\n\nfn=(2)\n51 300\n+2 100\n\nfn=(1)\n18 3\n\ntotals: 429\n";
        assert_eq!(parse(text), Some(Instructions { total: 429, of_memset: 400 }));
        assert_eq!(parse("fn=(1) main\n16 20\n"), None, "a file that was cut off");
    }
}
