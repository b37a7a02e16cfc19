//! Child processes, and the directory of a run.
//!
//! A child is ended by its own process ID, at the latest with the drop of its [`Process`].

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rand::Rng as _;
use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitOptions, getpid, getrlimit, kill_process, set_child_subreaper,
    setrlimit, waitpid,
};
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

/// The ID of the process that serves. It changes with an upgrade.
#[derive(Debug, Clone)]
pub(crate) struct ServingId(Arc<AtomicU32>);

impl ServingId {
    fn new(id: u32) -> Self {
        Self(Arc::new(AtomicU32::new(id)))
    }

    /// The current ID.
    pub(crate) fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// A successor serves.
    pub(crate) fn follow(&self, id: u32) {
        self.0.store(id, Ordering::Relaxed);
    }
}

/// A running server, or its successor after an upgrade.
pub(crate) struct Process {
    child: Child,
    serving: ServingId,
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
        let serving = ServingId::new(child.id());
        Ok(Self { child, serving, program, output })
    }

    /// Its process ID, or that of its successor.
    pub(crate) fn id(&self) -> &ServingId {
        &self.serving
    }

    /// Whether it is running, or its successor.
    pub(crate) fn is_running(&mut self) -> bool {
        if self.is_child() {
            return matches!(self.child.try_wait(), Ok(None));
        }
        // A successor is a child of this process after the end of its own parent (`reap_orphans`).
        let waited = pid(self.serving.get()).map(|pid| waitpid(Some(pid), WaitOptions::NOHANG));
        matches!(waited, Some(Ok(None)))
    }

    fn is_child(&self) -> bool {
        self.child.id() == self.serving.get()
    }

    /// Waits until connections to `address` are accepted.
    pub(crate) fn wait_for(&mut self, address: SocketAddr) -> Result<(), ProcessError> {
        self.wait_for_at_most(address, START_TIMEOUT)
    }

    /// Waits until connections to `address` are accepted, at most for `timeout`.
    pub(crate) fn wait_for_at_most(
        &mut self,
        address: SocketAddr,
        timeout: Duration,
    ) -> Result<(), ProcessError> {
        let deadline = clock::now() + timeout;
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

impl Process {
    /// Ends it by SIGTERM, and by SIGKILL after `timeout`. The drop does the same with 8 s.
    pub(crate) fn stop(mut self, timeout: Duration) {
        self.end(timeout);
    }

    fn end(&mut self, timeout: Duration) {
        let deadline = clock::now() + timeout;
        let serving = pid(self.serving.get());
        if let Some(pid) = serving {
            // An error means that it has ended already.
            let _ = kill_process(pid, Signal::TERM);
        }
        while self.is_running() {
            if clock::now() >= deadline
                && let Some(pid) = serving
            {
                let _ = kill_process(pid, Signal::KILL);
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end(STOP_TIMEOUT);
    }
}

/// The process ID for a system call.
pub(crate) fn pid(id: u32) -> Option<Pid> {
    i32::try_from(id).ok().and_then(Pid::from_raw)
}

/// Makes descendants without a parent children of this process, so that the end of a successor is seen.
pub(crate) fn reap_orphans() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
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
