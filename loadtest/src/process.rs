//! Child processes, and the directory of a run.
//!
//! A child is ended by its own process ID, at the latest with the drop of its [`Process`].

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rand::Rng as _;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use thiserror::Error;

use crate::clock;

const START_TIMEOUT: Duration = Duration::from_secs(15);
const STOP_TIMEOUT: Duration = Duration::from_secs(8);
const POLL: Duration = Duration::from_millis(20);

/// Why a server could not be started.
#[derive(Debug, Error)]
pub(crate) enum ProcessError {
    /// The program is missing or not executable.
    #[error("cannot start {program}: {cause}")]
    Spawn {
        /// The program.
        program: String,
        /// The operating system's error.
        cause: io::Error,
    },
    /// The process ended before it listened.
    #[error("{program} ended before it listened:\n{output}")]
    Ended {
        /// The program.
        program: String,
        /// The end of its output.
        output: String,
    },
    /// The process did not listen in time.
    #[error("{program} does not listen on {address}:\n{output}")]
    Silent {
        /// The program.
        program: String,
        /// The address on which it should listen.
        address: SocketAddr,
        /// The end of its output.
        output: String,
    },
}

/// A running server.
pub(crate) struct Process {
    child: Child,
    program: String,
    output: PathBuf,
}

impl Process {
    /// Starts `command` with its output in a file of `directory`.
    pub(crate) fn start(mut command: Command, directory: &Path) -> Result<Self, ProcessError> {
        let program = command.get_program().to_string_lossy().into_owned();
        let name = Path::new(&program).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let output = directory.join(format!("{name}.out"));
        let mut spawn = || {
            let file = File::create(&output)?;
            command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).spawn()
        };
        let child = spawn().map_err(|cause| ProcessError::Spawn { program: program.clone(), cause })?;
        Ok(Self { child, program, output })
    }

    /// Its process ID.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it is running.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until connections to `address` are accepted.
    pub(crate) fn wait_for(&mut self, address: SocketAddr) -> Result<(), ProcessError> {
        let deadline = clock::now() + START_TIMEOUT;
        loop {
            if TcpStream::connect_timeout(&address, POLL).is_ok() {
                return Ok(());
            }
            let program = self.program.clone();
            if !self.is_running() {
                return Err(ProcessError::Ended { program, output: self.last_output() });
            }
            if clock::now() > deadline {
                return Err(ProcessError::Silent { program, address, output: self.last_output() });
            }
            std::thread::sleep(POLL);
        }
    }

    fn last_output(&self) -> String {
        let text = fs::read_to_string(&self.output).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let deadline = clock::now() + STOP_TIMEOUT;
        if let Ok(Some(pid)) = i32::try_from(self.child.id()).map(Pid::from_raw) {
            // An error means that it has ended already.
            let _ = kill_process(pid, Signal::TERM);
        }
        while self.is_running() && clock::now() < deadline {
            std::thread::sleep(POLL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Raises the soft limit of open files to the hard limit, because a load can have thousands of connections.
pub(crate) fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // An error is ignored: connections then fail above the limit, and are counted.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// A directory for configuration, logs and output. It is removed at the end of a successful run.
pub(crate) struct RunDirectory {
    path: PathBuf,
    keep: bool,
}

impl RunDirectory {
    /// Creates a new directory.
    pub(crate) fn create(name: &str) -> io::Result<Self> {
        let unique: u32 = rand::rng().random();
        let path = std::env::temp_dir().join(format!("loadtest-{name}-{unique:08x}"));
        fs::create_dir_all(&path)?;
        Ok(Self { path, keep: true })
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The run succeeded: the drop removes the directory.
    pub(crate) fn discard(mut self) {
        self.keep = false;
    }
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        if self.keep {
            eprintln!("logs and configuration are kept in {}", self.path.display());
        } else {
            // A failed removal of a temporary directory does not fail the run.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
