//! The binary: configuration, telemetry, gateway, signals, drain and exit code.

mod admin_client;
mod cli;
mod config_output;
mod drain_command;
mod health_check;
mod memcpy;
mod relaunch;
mod reload_command;
mod replay_command;
mod signals;
mod status_command;

use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use slog::{Logger, error, info, warn};
use tidegate::telemetry::{self, log::LogControl};
use tidegate::{Gateway, Reload, raise_descriptor_limit};
use tidegate_config::{Config, EffectiveConfig, Loaded, SourceSet};

use crate::cli::{Arguments, CliCommand, ExitError};
use crate::signals::{SignalRequest, Signals};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The longest wait for the last log lines at the end.
const LOG_END_MAX: Duration = Duration::from_secs(1);
/// The same after a second signal.
const LOG_SHORT_END_MAX: Duration = Duration::from_millis(250);

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(code) => code,
        Err(exit) => {
            exit.print();
            exit.code()
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode, ExitError> {
    if let Some(CliCommand::Incident(choice)) = &arguments.command {
        return cli::print_incident(&arguments, choice);
    }
    let environment = match arguments.command {
        None => relaunch::prepare_environment(arguments.secrets_on_stdin)?,
        Some(_) => tidegate_config::environment(),
    };
    let checked = match &arguments.command {
        Some(CliCommand::Reload(choice)) => choice.check.clone(),
        _ => None,
    };
    let file = arguments.config.clone().or(checked);
    let sources = SourceSet::new(file, environment, arguments.strict);
    let loaded = sources.load();
    if let Some(CliCommand::Reload(choice)) = &arguments.command {
        return cli::reload(loaded, &arguments, choice);
    }
    let Loaded { mut config, warnings, effective, files } = loaded.map_err(ExitError::Config)?;
    match &arguments.command {
        Some(CliCommand::Check) => {
            cli::check(&config, warnings, arguments.strict)?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(CliCommand::Health) => {
            let probed = health_check::probe(&config);
            probed.map_err(|(address, why)| ExitError::Unhealthy { address, why })?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(CliCommand::Config(choice)) => {
            cli::print_config((&config, &effective), choice, warnings, arguments.strict)?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(CliCommand::Drain(choice)) => return cli::drain(&config, choice),
        Some(CliCommand::Status(choice)) => return cli::print_status(&config, choice),
        Some(CliCommand::Simulate(choice)) => return cli::simulate(choice, &config),
        // An incident needs no configuration, and a reload has ended above.
        Some(CliCommand::Incident(_) | CliCommand::Reload(_)) | None => {}
    }
    let warnings = cli::complete_warnings(&config, warnings, arguments.strict)?;
    let (log, control) = telemetry::log::build(&config.log)?;
    cli::log_warnings(&warnings, &log);
    let served = {
        let _last_panic_logged = telemetry::panics::log_panics(log.clone())?;
        let origin = embedded_origin(&mut config, &log)?;
        let demo = origin.is_some();
        // Never dropped, because a drop would wait for blocking calls, such as a DNS lookup that hangs.
        let system = ManuallyDrop::new(actix_rt::System::new());
        system.block_on(serve(config, (effective, sources, files), (log, control.clone()), demo))
    };
    control.shut_down(if matches!(served, Err(ExitError::SecondSignal)) {
        LOG_SHORT_END_MAX
    } else {
        LOG_END_MAX
    });
    served.map(|()| ExitCode::SUCCESS)
}

async fn serve(
    config: Config,
    reloadable: (EffectiveConfig, SourceSet, Vec<PathBuf>),
    (log, control): (Logger, LogControl),
    demo: bool,
) -> Result<(), ExitError> {
    let mut signals = Signals::new()?;
    raise_descriptor_limit(&log);
    let scheme = |is_tls| if is_tls { "https" } else { "http" };
    let scheme = (scheme(config.server.tls.files().is_some()), scheme(config.admin.tls.files().is_some()));
    let mut running = Gateway::start(config, reloadable, log.clone(), &control)?;
    if demo {
        cli::print_demo_help((scheme.0, running.address), (scheme.1, running.admin_address));
    }
    let handles = Handles { reload: running.reload(), control, log: log.clone() };
    let failed = tokio::select! {
        () = stop_requested(&mut signals, &handles) => None,
        thread = running.worker_failed() => Some(thread),
    };
    if let Some(thread) = &failed {
        error!(log, "a worker thread has ended, the process drains and exits"; "thread" => thread,
            "hint" => "this is a defect: report the panic in the log before this line, and have a supervisor restart the process");
    }
    tokio::select! {
        cut_off = running.stop() => match (failed, cut_off) {
            (Some(thread), _) => Err(ExitError::ThreadEnded(thread)),
            (None, 0) => Ok(()),
            (None, cut_off) => Err(ExitError::CutOff(cut_off)),
        },
        () = stop_requested(&mut signals, &handles) => {
            warn!(log, "second signal: ending at once");
            Err(ExitError::SecondSignal)
        }
    }
}

/// The handles that signals use.
struct Handles {
    reload: Reload,
    control: LogControl,
    log: Logger,
}

/// Handles signals until one requests a stop.
async fn stop_requested(signals: &mut Signals, handles: &Handles) {
    loop {
        match signals.next().await {
            (_, SignalRequest::Stop) => return,
            (_, SignalRequest::Reload) => handles.reload.request(),
            (_, SignalRequest::ReopenLog) => handles.control.reopen(),
            (name, SignalRequest::Ignore) => info!(handles.log, "signal ignored"; "signal" => name),
        }
    }
}

/// The most damaged files of the embedded origin that the log names at a start. All objects can be damaged at once.
#[cfg(feature = "origin")]
const LOGGED_FAULTS_MAX: usize = 20;

/// Without a configured bucket, starts a real S3 server inside the process and configures a bucket `demo`.
#[cfg(feature = "origin")]
fn embedded_origin(config: &mut Config, log: &Logger) -> Result<Option<tidegate::origin::Origin>, ExitError> {
    if !config.buckets.is_empty() {
        return Ok(None);
    }
    let origin = tidegate::origin::start(Path::new("tidegate-data"), "demo")?;
    for fault in origin.faults.iter().take(LOGGED_FAULTS_MAX) {
        warn!(log, "a file of the embedded origin is not served, it stays on disk"; "path" => fault.path.display().to_string(),
            "detail" => &fault.problem, "hint" => fault.hint);
    }
    if origin.faults.len() > LOGGED_FAULTS_MAX {
        warn!(log, "further files of the embedded origin are not served, they stay on disk";
            "detail" => format!("{} more", origin.faults.len() - LOGGED_FAULTS_MAX));
    }
    let secret = tidegate_config::Secret::new(origin.secret_access_key.clone());
    config.add_demo(origin.address.port(), origin.access_key_id.clone(), secret);
    Ok(Some(origin))
}

#[cfg(not(feature = "origin"))]
fn embedded_origin(config: &mut Config, _log: &Logger) -> Result<Option<&'static Path>, ExitError> {
    if config.buckets.is_empty() { Err(ExitError::NoBuckets) } else { Ok(None) }
}
