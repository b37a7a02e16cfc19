//! Starts the program once more, in the same process, in the environment that it should have had.
//!
//! Two things can only be settled before a program starts. Secrets must not stay in the environment (C5): the kernel shows what
//! a program was started with to whoever may read `/proc/PID/environ`, and no removal from inside changes that; besides,
//! removing a variable is sound only where no other thread can read one. And glibc reads its tunables at the start
//! (`memcpy.rs`). So the program executes itself: same process, same arguments, without the variables that hold secrets.
//! Those come to it through a pipe on its standard input, which it has no other use for. Variables that hold none stay, for
//! whoever wants to see how a gateway was started.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, PipeReader, Read as _, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use thiserror::Error;
use zeroize::Zeroizing;

use crate::memcpy;

/// The argument that says that secrets wait on the standard input.
const SECRETS_ON_STDIN: &str = "--secrets-on-stdin";
/// What a pipe surely takes while nobody reads it.
const PIPE_BYTES_MAX: usize = 60 << 10;

/// Variables by name.
type Variables = Vec<(OsString, OsString)>;

/// Why secrets cannot be taken out of the environment.
#[derive(Debug, Error)]
pub(crate) enum RelaunchError {
    /// A pipe takes only so much.
    #[error(
        "the variables that hold secrets have {0} bytes, at most {PIPE_BYTES_MAX} can be taken out of the \
         environment; put secrets in files"
    )]
    TooMuch(usize),
    /// The program cannot be started again.
    #[error(
        "secrets cannot be taken out of the environment, the program cannot be started again: {0}; put them in \
         files"
    )]
    Exec(io::Error),
    /// What was handed over cannot be read.
    #[error("the secrets cannot be read from the standard input: {0}")]
    Read(io::Error),
}

/// Gives the variables that concern tidegate, once the environment is as it should be.
///
/// # Errors
/// There are secrets in the environment, and they cannot be taken out of it.
pub(crate) fn prepare_environment(secrets_wait: bool) -> Result<Variables, RelaunchError> {
    let is_secret =
        |(name, _): &(OsString, OsString)| name.to_str().is_some_and(tidegate_config::is_secret_variable);
    let (secrets, mut plain): (Variables, Variables) =
        tidegate_config::environment().into_iter().partition(is_secret);
    if secrets_wait {
        let mut bytes = Zeroizing::new(Vec::new());
        io::stdin().read_to_end(&mut bytes).map_err(RelaunchError::Read)?;
        plain.extend(unpack(&bytes));
        return Ok(plain);
    }
    let tunables = memcpy::tunables();
    if secrets.is_empty() && tunables.is_none() {
        return Ok(plain);
    }
    let failure = reexec(&secrets, tunables.as_deref())?;
    // Slower copies are no reason not to serve.
    if secrets.is_empty() { Ok(plain) } else { Err(RelaunchError::Exec(failure)) }
}

/// Does not return if it succeeds.
fn reexec(secrets: &Variables, tunables: Option<&OsStr>) -> Result<io::Error, RelaunchError> {
    let program = match env::current_exe() {
        Ok(program) => program,
        Err(error) => return Ok(error),
    };
    let mut arguments = env::args_os();
    let name = arguments.next().unwrap_or_else(|| program.clone().into());
    let mut command = Command::new(program);
    command.arg0(name).args(arguments);
    if let Some(tunables) = tunables {
        command.env(memcpy::TUNABLES, tunables);
    }
    if !secrets.is_empty() {
        for (name, _) in secrets {
            command.env_remove(name);
        }
        command.arg(SECRETS_ON_STDIN).stdin(filled_pipe(&pack(secrets))?);
    }
    Ok(command.exec())
}

/// A pipe that holds these bytes and ends after them.
fn filled_pipe(bytes: &[u8]) -> Result<PipeReader, RelaunchError> {
    if bytes.len() > PIPE_BYTES_MAX {
        return Err(RelaunchError::TooMuch(bytes.len()));
    }
    let (reader, mut writer) = io::pipe().map_err(RelaunchError::Exec)?;
    writer.write_all(bytes).map_err(RelaunchError::Exec)?;
    Ok(reader)
}

/// As the kernel keeps an environment: `NAME=VALUE`, each ended by a zero.
fn pack(variables: &Variables) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::new());
    for (name, value) in variables {
        for part in [name.as_bytes(), b"=", value.as_bytes(), b"\0"] {
            bytes.extend_from_slice(part);
        }
    }
    bytes
}

fn unpack(bytes: &[u8]) -> Variables {
    let variable = |entry: &[u8]| {
        let equals = entry.iter().position(|byte| *byte == b'=')?;
        let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        Some((text(&entry[..equals]), text(&entry[equals + 1..])))
    };
    bytes.split(|byte| *byte == 0).filter_map(variable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C5
    #[test]
    fn variables_survive_the_way_through_the_pipe() {
        let variables: Variables =
            [("A", "x=y\n z"), ("B", ""), ("C", "ü")].map(|(a, b)| (a.into(), b.into())).into();
        let mut bytes = Vec::new();
        filled_pipe(&pack(&variables)).unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(unpack(&bytes), variables);
    }

    #[test]
    fn what_no_pipe_holds_is_refused_and_not_waited_for() {
        let error = filled_pipe(&vec![b'x'; PIPE_BYTES_MAX + 1]).unwrap_err();
        assert!(matches!(error, RelaunchError::TooMuch(bytes) if bytes == PIPE_BYTES_MAX + 1));
    }
}
