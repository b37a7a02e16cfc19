//! Executes the program again, in the same process, with the environment that it needs.
//!
//! Two settings take effect only at the start of a program. First, secrets must not stay in the environment (C5): the
//! kernel shows the initial environment to everyone who may read `/proc/PID/environ`, and the program cannot change
//! that. Also, removing a variable is sound only if no other thread can read one. Second, glibc reads its tunables at
//! the start (`memcpy.rs`). So the program executes itself: same process, same arguments, without the variables that
//! hold secrets. It receives those through a pipe on its standard input, which has no other use. Variables without
//! secrets stay, so that an operator can see how a gateway was started. The successor of an upgrade has this environment, and
//! receives the secrets from its predecessor.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, PipeReader, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use thiserror::Error;
use tidegate::{Variables, pack_variables, unpack_variables};
use zeroize::Zeroizing;

use crate::memcpy;

/// The argument after which the program reads secrets from its standard input.
pub(crate) const SECRETS_ON_STDIN: &str = "--secrets-on-stdin";
/// The bytes that any pipe can hold while nothing reads it.
const PIPE_BYTES_MAX: usize = 60 << 10;

/// Why secrets cannot be removed from the environment.
#[derive(Debug, Error)]
pub(crate) enum RelaunchError {
    /// The secrets do not fit a pipe.
    #[error(
        "the variables that hold secrets have {0} bytes, at most {PIPE_BYTES_MAX} can be removed from the \
         environment; put secrets in files"
    )]
    TooMuch(usize),
    /// The program cannot be executed again.
    #[error(
        "secrets cannot be removed from the environment, the program cannot be executed again: {0}; put them in \
         files"
    )]
    Exec(io::Error),
    /// The pipe with the secrets cannot be read.
    #[error("the secrets cannot be read from the standard input: {0}")]
    Read(io::Error),
}

/// The secrets among these variables.
pub(crate) fn secrets(variables: &Variables) -> Variables {
    variables.iter().filter(is_secret).cloned().collect()
}

fn is_secret((name, _): &&(OsString, OsString)) -> bool {
    name.to_str().is_some_and(tidegate_config::is_secret_variable)
}

/// Returns the variables of tidegate, after the program was executed with the right environment.
///
/// # Errors There are secrets in the environment, and they cannot be removed from it.
pub(crate) fn prepare_environment(secrets_on_stdin: bool) -> Result<Variables, RelaunchError> {
    let (secrets, mut plain): (Variables, Variables) =
        tidegate_config::environment().into_iter().partition(|variable| is_secret(&variable));
    if secrets_on_stdin {
        let mut bytes = Zeroizing::new(Vec::new());
        io::stdin().read_to_end(&mut bytes).map_err(RelaunchError::Read)?;
        plain.extend(unpack_variables(&bytes));
        return Ok(plain);
    }
    let tunables = memcpy::tunables();
    if secrets.is_empty() && tunables.is_none() {
        return Ok(plain);
    }
    let failure = reexec(&secrets, tunables.as_deref())?;
    // Slower copies are not a reason to fail.
    if secrets.is_empty() { Ok(plain) } else { Err(RelaunchError::Exec(failure)) }
}

/// Executes the program again. Returns only on failure.
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
        command.arg(SECRETS_ON_STDIN).stdin(filled_pipe(&pack_variables(secrets))?);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_larger_than_a_pipe_are_refused() {
        let error = filled_pipe(&vec![b'x'; PIPE_BYTES_MAX + 1]).unwrap_err();
        assert!(matches!(error, RelaunchError::TooMuch(bytes) if bytes == PIPE_BYTES_MAX + 1));
    }
}
