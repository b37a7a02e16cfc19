//! The command line: arguments, exit codes, and messages for the terminal.
//!
//! Exit codes are those of sysexits.h, except 2 for a wrong command line, which clap and most programs use, 0 to 3 of `tidegate status`,
//! which monitoring plugins use, and 0, 1 and 3 of `tidegate reload`, `tidegate upgrade` and `tidegate drain`. A drain of the process that
//! cut requests off ends with 1, so that a deployment notices. nginx and HAProxy end with 0 in this case and only log it.

use std::io::{self, IsTerminal as _, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use clap::{Parser, Subcommand};
use slog::{Logger, info, warn};
use thiserror::Error;
use tidegate::telemetry::log::{LogError, write_stderr};
use tidegate::{ActivationError, DescriptorLimitError, Gateway, StartError, SuccessorError, startup_check};
use tidegate_config::{Config, EffectiveConfig, Problem, Problems, SourceSet, Warnings};

use crate::admin_client::ReplyError;
use crate::client_config;
use crate::config_output::{self, ConfigChoice, UnknownKey};
use crate::drain_command::{self, DrainChoice, DrainOutput};
use crate::relaunch::RelaunchError;
use crate::reload_command::{self, ReloadChoice};
use crate::replay_command::{self, IncidentChoice, ReplayCommandError, SimulateChoice};
use crate::status_command::{self, Screen, StatusChoice};
use crate::upgrade_command::{self, UpgradeChoice};

/// Longest wait for a message on stderr.
const STDERR_MAX: Duration = Duration::from_secs(1);
/// The same after a second signal.
const STDERR_SHORT_MAX: Duration = Duration::from_millis(100);

/// A gateway for S3 buckets and HTTP APIs that stays standing.
#[derive(Parser)]
#[command(version, about)]
pub(crate) struct Arguments {
    /// Configuration file, TOML or YAML; environment variables (TIDEGATE_…) override it.
    #[arg(long, short, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,
    /// Treat every configuration warning as an error.
    #[arg(long, global = true)]
    pub(crate) strict: bool,
    /// Read from stdin the secrets that the first process took out of its environment (`relaunch.rs`).
    #[arg(long, hide = true)]
    pub(crate) secrets_on_stdin: bool,
    /// Take over from the process that started this one; the standard input is the channel to it (`upgrade/successor.rs`).
    #[arg(long, hide = true)]
    pub(crate) upgrade_on_stdin: bool,
    #[command(subcommand)]
    pub(crate) command: Option<CliCommand>,
}

#[derive(Subcommand)]
pub(crate) enum CliCommand {
    /// Print every error and warning of the configuration; start nothing.
    Check,
    /// Print the effective configuration: every key with its value.
    Config(ConfigChoice),
    /// Replay access logs with the configuration of `--config`: what it would have limited, queued and refused.
    Simulate(SimulateChoice),
    /// Print the timeline of an incident from logs: causes, transitions, refusals and clients.
    Incident(IncidentChoice),
    /// Check the liveness of a running gateway at its admin listener.
    Health,
    /// Drain a running gateway, as SIGTERM does, or one bucket or endpoint of it, and wait until no request is left; the exit code is 0
    /// if every request has ended, 1 if some were cut off or are left, 3 not reachable.
    Drain(DrainChoice),
    /// Make a running gateway load its configuration again, or check a file against it; the exit code is 0 if the configuration is
    /// accepted, 1 refused, 3 not reachable.
    Reload(ReloadChoice),
    /// Print whether a running gateway is degraded, and why; the exit code is 0 ok, 1 degraded, 2 critical, 3 unknown.
    Status(StatusChoice),
    /// Make a running gateway start its program again and hand over to the new process; the exit code is 0 if the new process serves,
    /// 1 refused or failed, 3 not reachable.
    Upgrade(UpgradeChoice),
}

/// Why the process exits with a code other than 0.
#[derive(Debug, Error)]
pub(crate) enum ExitError {
    #[error("{0}")]
    Config(Problems),
    #[error("{0}\n--strict treats these warnings as errors")]
    StrictWarnings(Problems),
    #[cfg(not(feature = "origin"))]
    #[error(
        "buckets: none is configured, and this build has no embedded origin to fall back on; configure one"
    )]
    NoBuckets,
    #[error("{0}")]
    Start(#[from] StartError),
    #[error("{0}")]
    Relaunch(#[from] RelaunchError),
    #[error("{0}")]
    Successor(#[from] SuccessorError),
    #[error("{0}")]
    Activation(#[from] ActivationError),
    #[error("{0}")]
    Log(#[from] LogError),
    #[cfg(feature = "origin")]
    #[error("{0}")]
    Origin(#[from] tidegate::origin::OriginError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the output cannot be written: {0}")]
    Output(io::Error),
    #[error("the gateway at {address} is not healthy: {why}")]
    Unhealthy { address: SocketAddr, why: String },
    #[error("{0}")]
    NoReply(#[from] ReplyError),
    #[error("{0} ended because of a defect in tidegate; its panic is in the log")]
    ThreadEnded(String),
    #[error("a second signal stopped the gateway before all requests had finished")]
    SecondSignal,
    #[error("{0}")]
    UnknownKey(#[from] UnknownKey),
    #[error("{0}")]
    Replay(#[from] ReplayCommandError),
    #[error(
        "the successor ended ({0}) while this process drained, so no process serves; start the gateway again"
    )]
    SuccessorEnded(ExitStatus),
    #[error("server.drain_timeout expired before all requests had finished: {0} cut off")]
    CutOff(usize),
}

impl ExitError {
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Config(_) | Self::StrictWarnings(_) | Self::Activation(_) => 78,
            Self::Start(
                StartError::ServerTls(_)
                | StartError::Tokens(_)
                | StartError::Tls { .. }
                | StartError::Descriptors(DescriptorLimitError::Key { .. }),
            ) => 78,
            #[cfg(not(feature = "origin"))]
            Self::NoBuckets => 78,
            Self::Start(StartError::Listen { .. }) => 69,
            Self::Log(_) | Self::Output(_) => 73,
            #[cfg(feature = "origin")]
            Self::Origin(_) => 73,
            Self::UnknownKey(_) => 2,
            Self::NoReply(_) => 3,
            Self::Replay(error) => error.code(),
            // Cut off requests at its own stop are no failure of the program.
            Self::SuccessorEnded(status) if status.code() == Some(1) => 1,
            Self::ThreadEnded(_) | Self::SuccessorEnded(_) => 70,
            Self::Start(_) | Self::Relaunch(_) | Self::Successor(_) | Self::Io(_) => 71,
            Self::Unhealthy { .. } | Self::SecondSignal | Self::CutOff(_) => 1,
        })
    }

    pub(crate) fn print(&self) {
        // A blocked stderr must not hold up the exit.
        let wait_max = if matches!(self, Self::SecondSignal) { STDERR_SHORT_MAX } else { STDERR_MAX };
        write_stderr(format!("tidegate: {self}\n"), wait_max);
    }
}

/// Prints the warnings; with `strict` they are errors.
pub(crate) fn check(config: &Config, mut warnings: Warnings, strict: bool) -> Result<(), ExitError> {
    Gateway::check(config)?;
    #[cfg(not(feature = "origin"))]
    if config.buckets.is_empty() {
        return Err(ExitError::NoBuckets);
    }
    startup_check::add_warnings(config, &mut warnings);
    startup_check::add_dns_warnings(config, &mut warnings);
    let mut text = String::new();
    for note in warnings.notes() {
        text.push_str(&format!("note: {note}\n"));
    }
    let warned = warnings.iter().count();
    if strict {
        write_stderr(text, STDERR_MAX);
        warnings.refuse().map_err(ExitError::StrictWarnings)?;
    } else {
        warnings.iter().for_each(|warning| text.push_str(&format!("warning: {warning}\n")));
        write_stderr(text, STDERR_MAX);
    }
    let counted = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    let demo = if config.buckets.is_empty() { " (the embedded `demo` starts)" } else { "" };
    let buckets = counted(config.buckets.len(), "bucket");
    let more = if warned == 0 { String::new() } else { format!(", {}", counted(warned, "warning")) };
    write_text(&mut io::stdout(), &format!("the configuration is valid: {buckets}{demo}{more}\n"))?;
    Ok(())
}

/// Prints the effective configuration; with `strict` a warning is an error.
pub(crate) fn print_config(
    (config, effective): (&Config, &EffectiveConfig),
    choice: &ConfigChoice,
    warnings: Warnings,
    strict: bool,
) -> Result<(), ExitError> {
    if strict {
        warnings.refuse().map_err(ExitError::StrictWarnings)?;
    }
    let running = config_output::running(config, choice)?;
    write_text(&mut io::stdout(), &config_output::render(effective, choice, running.as_ref())?)?;
    Ok(())
}

/// Prints the status of a running gateway; returns the exit code of its verdict.
pub(crate) fn print_status(config: &Config, choice: &StatusChoice) -> Result<ExitCode, ExitError> {
    let mut stdout = io::stdout();
    let is_terminal = stdout.is_terminal();
    let status = status_command::run(config, choice, &mut Screen { out: &mut stdout, is_terminal })?;
    Ok(ExitCode::from(status.code()))
}

/// Drains a running gateway; returns the exit code of the result.
pub(crate) fn drain(config: &Config, choice: &DrainChoice) -> Result<ExitCode, ExitError> {
    let mut stdout = io::stdout();
    let is_terminal = stdout.is_terminal();
    let end = drain_command::run(config, choice, DrainOutput { out: &mut stdout, is_terminal })?;
    Ok(ExitCode::from(end.code()))
}

/// Makes a running gateway load its configuration again, or checks a file by the rules of a reload. Without `--config` the file that is
/// checked names the gateway.
pub(crate) fn reload(arguments: &Arguments, choice: &ReloadChoice) -> Result<ExitCode, ExitError> {
    let file = arguments.config.clone().or_else(|| choice.check.clone());
    let named = client_config::load(file, choice.url.as_deref());
    let checked = choice
        .check
        .clone()
        .map(|file| SourceSet::new(Some(file), tidegate_config::environment(), arguments.strict).reload());
    let output = match (&named, &checked) {
        (_, Some(Err(problems))) | (Err(problems), _) => reload_command::refused(problems, choice),
        (Ok(named), Some(Ok(loaded))) => reload_command::check(loaded, named, choice)?,
        (Ok(named), None) => reload_command::reload(named, choice)?,
    };
    write_text(&mut io::stdout(), &output.text)?;
    Ok(ExitCode::from(u8::from(!output.is_accepted)))
}

/// Makes a running gateway hand over to a new process.
pub(crate) fn upgrade(
    named: Result<Config, Problems>,
    choice: &UpgradeChoice,
) -> Result<ExitCode, ExitError> {
    let output = match &named {
        Err(problems) => upgrade_command::refused(problems, choice),
        Ok(named) => upgrade_command::upgrade(named, choice)?,
    };
    write_text(&mut io::stdout(), &output.text)?;
    Ok(ExitCode::from(u8::from(!output.is_done)))
}

/// Replays access logs with a configuration. A terminal gets the progress.
pub(crate) fn simulate(choice: &SimulateChoice, config: &Config) -> Result<ExitCode, ExitError> {
    let is_terminal = io::stderr().is_terminal();
    let text = replay_command::simulate(choice, config, &mut |progress| {
        if is_terminal {
            write_stderr(replay_command::progress_line(&progress), STDERR_SHORT_MAX);
        }
    });
    if is_terminal {
        write_stderr("\n".to_owned(), STDERR_SHORT_MAX);
    }
    write_text(&mut io::stdout(), &text?)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the timeline of an incident. The options of the configuration have no effect on it.
pub(crate) fn print_incident(arguments: &Arguments, choice: &IncidentChoice) -> Result<ExitCode, ExitError> {
    let unused = [(arguments.config.is_some(), "--config"), (arguments.strict, "--strict")];
    if let Some((_, option)) = unused.into_iter().find(|(is_given, _)| *is_given) {
        return Err(ReplayCommandError::NoConfiguration(option).into());
    }
    write_text(&mut io::stdout(), &replay_command::incident(choice)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Adds warnings about missing capabilities of this machine. With `strict` any warning is an error.
pub(crate) fn complete_warnings(
    config: &Config,
    mut warnings: Warnings,
    strict: bool,
) -> Result<Warnings, ExitError> {
    startup_check::add_warnings(config, &mut warnings);
    if strict {
        warnings.clone().refuse().map_err(ExitError::StrictWarnings)?;
    }
    Ok(warnings)
}

/// Logs each warning and note that `check` prints as one line.
pub(crate) fn log_warnings(warnings: &Warnings, log: &Logger) {
    for Problem { key, source, message, hint, .. } in warnings.iter() {
        warn!(log, "configuration warning"; "key" => key, "detail" => message, "source" => source.to_string(),
            "hint" => hint.as_deref());
    }
    for Problem { key, source, message, hint, .. } in warnings.notes() {
        info!(log, "configuration note"; "key" => key, "detail" => message, "source" => source.to_string(),
            "hint" => hint.as_deref());
    }
}

/// Usage help for a start without configured buckets.
pub(crate) fn print_demo_help((scheme, address): (&str, SocketAddr), admin: (&str, SocketAddr)) {
    let (admin_scheme, admin) = admin;
    let text = format!(
        "\ntidegate serves the bucket `demo` on {scheme}://{address}/ (data in ./tidegate-data)\n\
         page for people: {admin_scheme}://{admin}/\n\
         status: tidegate status, or curl {admin_scheme}://{admin}/status\n\n\
         try it:\n  \
         curl -T Cargo.toml {scheme}://{address}/demo/hello.txt\n  \
         curl {scheme}://{address}/demo/hello.txt\n  \
         aws --no-sign-request --endpoint-url {scheme}://{address} s3 cp Cargo.toml s3://demo/hello.toml\n  \
         aws --no-sign-request --endpoint-url {scheme}://{address} s3 ls s3://demo/\n\n"
    );
    write_stderr(text, STDERR_MAX);
}

/// A closed pipe is not an error here: its reader has read enough.
fn write_text(out: &mut dyn Write, text: &str) -> Result<(), ExitError> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(ExitError::Output(error)),
        _ => Ok(()),
    }
}
