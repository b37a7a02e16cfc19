//! The binary: configuration, telemetry, gateway, signals, drain and exit code.

mod admin_client;
mod cli;
mod client_config;
mod config_output;
mod drain_command;
mod health_check;
mod memcpy;
mod relaunch;
mod reload_command;
mod replay_command;
mod signals;
mod status_command;
mod upgrade_command;

use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use slog::{Logger, error, info, warn};
use tidegate::telemetry::{self, log::LogControl};
use tidegate::{
    ActivatedSockets, FailureReport, Gateway, Inheritance, InheritedSockets, Reload, ServiceManager,
    StopCause, StopResult, SuccessorError, Upgrade, UpgradeContext, UpgradeProgram, Variables,
    pack_variables, raise_descriptor_limit,
};
use tidegate_config::{Config, EffectiveConfig, Loaded, ServiceEnvironment, SourceSet};

use crate::cli::{Arguments, CliCommand, ExitError};
use crate::signals::{SignalRequest, Signals};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The longest wait for the last log lines at the end.
const LOG_END_MAX: Duration = Duration::from_secs(1);
/// The same after a second signal.
const LOG_SHORT_END_MAX: Duration = Duration::from_millis(250);

fn main() -> ExitCode {
    let mut report = None;
    match run(Arguments::parse(), &mut report) {
        Ok(code) => code,
        Err(exit) => {
            // A predecessor logs the failure of its successor.
            let is_sent = report.is_some_and(|report: FailureReport| report.send(&exit.to_string()));
            if !is_sent {
                exit.print();
            }
            exit.code()
        }
    }
}

fn run(arguments: Arguments, report: &mut Option<FailureReport>) -> Result<ExitCode, ExitError> {
    match &arguments.command {
        Some(command) => run_command(&arguments, command),
        None => run_gateway(arguments, report),
    }
}

/// Runs a command and ends. The environment stays as it is.
fn run_command(arguments: &Arguments, command: &CliCommand) -> Result<ExitCode, ExitError> {
    let client = |url: &Option<String>| client_config::load(arguments.config.clone(), url.as_deref());
    match command {
        CliCommand::Incident(choice) => cli::print_incident(arguments, choice),
        CliCommand::Reload(choice) => cli::reload(arguments, choice),
        CliCommand::Upgrade(choice) => cli::upgrade(client(&choice.url), choice),
        CliCommand::Drain(choice) => cli::drain(&client(&choice.url).map_err(ExitError::Config)?, choice),
        CliCommand::Status(choice) => {
            cli::print_status(&client(&choice.url).map_err(ExitError::Config)?, choice)
        }
        CliCommand::Health => {
            let probed = health_check::probe(&client(&None).map_err(ExitError::Config)?);
            probed.map_err(|(address, why)| ExitError::Unhealthy { address, why })?;
            Ok(ExitCode::SUCCESS)
        }
        CliCommand::Check => {
            let Loaded { config, warnings, .. } = load(arguments)?;
            cli::check(&config, warnings, arguments.strict)?;
            Ok(ExitCode::SUCCESS)
        }
        CliCommand::Config(choice) => {
            let Loaded { config, warnings, effective, .. } = load(arguments)?;
            cli::print_config((&config, &effective), choice, warnings, arguments.strict)?;
            Ok(ExitCode::SUCCESS)
        }
        CliCommand::Simulate(choice) => cli::simulate(choice, &load(arguments)?.config),
    }
}

/// Loads the configuration as a start does.
fn load(arguments: &Arguments) -> Result<Loaded, ExitError> {
    let sources = SourceSet::new(arguments.config.clone(), tidegate_config::environment(), arguments.strict);
    sources.load().map_err(ExitError::Config)
}

fn run_gateway(arguments: Arguments, report: &mut Option<FailureReport>) -> Result<ExitCode, ExitError> {
    signals::survive_start()?;
    let program = UpgradeProgram::of_this_process(&[relaunch::SECRETS_ON_STDIN]);
    let mut inheritance = match arguments.upgrade_on_stdin {
        true => Some(Inheritance::receive_on_stdin()?),
        false => None,
    };
    *report = inheritance.as_ref().map(Inheritance::failure_report);
    let environment = environment(arguments.secrets_on_stdin, inheritance.as_ref())?;
    let secrets = pack_variables(&relaunch::secrets(&environment));
    let service = ServiceEnvironment::read();
    let activated = ActivatedSockets::take(&service)?;
    let sources = SourceSet::new(arguments.config, environment, arguments.strict);
    let loaded = if inheritance.is_some() { sources.load_for_successor() } else { sources.load() };
    let Loaded { mut config, warnings, effective, files } = loaded.map_err(ExitError::Config)?;
    let warnings = cli::complete_warnings(&config, warnings, arguments.strict)?;
    let (log, control) = telemetry::log::build(&config.log)?;
    cli::log_warnings(&warnings, &log);
    let served = {
        let _last_panic_logged = telemetry::panics::log_panics(log.clone())?;
        let origin = embedded_origin(&mut config, &log)?;
        let context = UpgradeContext { program, secrets, has_origin: origin.is_some() };
        let sockets = match &mut inheritance {
            None => activated.assign(&config)?,
            Some(inheritance) => std::mem::take(&mut inheritance.sockets),
        };
        let service = ServiceManager::from_environment(&service, &log);
        // Never dropped, because a drop would wait for blocking calls, such as a DNS lookup that hangs.
        let system = ManuallyDrop::new(actix_rt::System::new());
        let logging = (log, control.clone());
        let start = (context, sockets, inheritance);
        system.block_on(serve(config, (effective, sources, files), logging, service, start))
    };
    control.shut_down(if matches!(served, Err(ExitError::SecondSignal)) {
        LOG_SHORT_END_MAX
    } else {
        LOG_END_MAX
    });
    served.map(|()| ExitCode::SUCCESS)
}

/// The variables of tidegate. A predecessor has those with secrets.
fn environment(
    secrets_on_stdin: bool,
    inheritance: Option<&Inheritance>,
) -> Result<Variables, relaunch::RelaunchError> {
    let Some(inheritance) = inheritance else { return relaunch::prepare_environment(secrets_on_stdin) };
    let mut variables = tidegate_config::environment();
    variables.extend(inheritance.variables.iter().cloned());
    Ok(variables)
}

async fn serve(
    config: Config,
    reloadable: (EffectiveConfig, SourceSet, Vec<PathBuf>),
    (log, control): (Logger, LogControl),
    service: ServiceManager,
    (context, sockets, inheritance): (UpgradeContext, InheritedSockets, Option<Inheritance>),
) -> Result<(), ExitError> {
    let mut signals = Signals::new()?;
    raise_descriptor_limit(&log);
    let scheme = |is_tls| if is_tls { "https" } else { "http" };
    let scheme = (scheme(config.server.tls.files().is_some()), scheme(config.admin.tls.files().is_some()));
    let (demo, start) = (context.has_origin, (context, inheritance.as_ref()));
    let mut running = Gateway::start(config, reloadable, (log.clone(), &control), sockets, start)?;
    if demo {
        cli::print_demo_help((scheme.0, running.address), (scheme.1, running.admin_address));
    }
    let (reload, upgrade, end_idle_time) = (running.reload(), running.upgrade(), running.end_idle_time());
    let handles = Handles { reload, upgrade, control, service, log: log.clone() };
    if let Some(inheritance) = inheritance {
        tokio::select! {
            taken = running.take_over(inheritance) => taken?,
            () = stop_requested(&mut signals, &handles) => return Err(SuccessorError::Stopped.into()),
        }
    }
    running.start_watchdog(&handles.service);
    handles.service.status(&format!("serving at {}, admin at {}", running.address, running.admin_address));
    handles.service.ready();
    let drain_requested = running.drain_requested();
    let cause = tokio::select! {
        () = stop_requested(&mut signals, &handles) => StopCause::Signal,
        () = drain_requested.next() => StopCause::Request,
        cause = running.must_stop() => cause,
    };
    if let StopCause::WorkerEnded(thread) = &cause {
        error!(log, "a worker thread has ended, the process drains and exits"; "thread" => thread,
            "hint" => "this is a defect: report the panic in the log before this line, and have a supervisor restart the process");
    }
    if let Some(successor) = running.successor().await {
        handles.service.main_pid(successor);
    }
    let _extension = handles.service.stopping();
    tokio::select! {
        result = running.stop(&cause) => ended(&cause, result),
        () = last_stop(&mut signals, &handles, &cause, end_idle_time) => {
            warn!(log, "second signal: ending at once");
            Err(ExitError::SecondSignal)
        }
    }
}

/// The result of a process that has drained.
fn ended(cause: &StopCause, StopResult { cut_off, successor }: StopResult) -> Result<(), ExitError> {
    match (cause, successor, cut_off) {
        (StopCause::WorkerEnded(thread), ..) => Err(ExitError::ThreadEnded(thread.clone())),
        (_, Some(status), _) if !status.success() => Err(ExitError::SuccessorEnded(status)),
        (.., 0) => Ok(()),
        _ => Err(ExitError::CutOff(cut_off)),
    }
}

/// Waits for the signal that ends a drain at once. That is the second one after a requested drain, because a supervisor sends the first,
/// and after an upgrade, where the first one ends the time of idle connections.
async fn last_stop(signals: &mut Signals, handles: &Handles, cause: &StopCause, end_idle_time: impl Fn()) {
    match cause {
        StopCause::Signal | StopCause::WorkerEnded(_) => {}
        StopCause::Request => {
            stop_requested(signals, handles).await;
            info!(handles.log, "the drain goes on after a signal to stop, another one ends it at once");
        }
        StopCause::HandedOver => {
            stop_requested(signals, handles).await;
            end_idle_time();
        }
    }
    stop_requested(signals, handles).await;
}

/// The handles that signals use.
struct Handles {
    reload: Reload,
    upgrade: Upgrade,
    control: LogControl,
    service: ServiceManager,
    log: Logger,
}

impl Handles {
    /// Requests a reload, and notifies the service manager of its begin and its end.
    fn reload(&self) {
        self.service.reloading();
        let (service, requested) = (self.service.clone(), self.reload.request());
        actix_rt::spawn(async move { service.reloaded(&requested.await) });
    }
}

/// Handles signals until one requests a stop.
async fn stop_requested(signals: &mut Signals, handles: &Handles) {
    loop {
        match signals.next().await {
            (_, SignalRequest::Stop) => return,
            (_, SignalRequest::Reload) => handles.reload(),
            (_, SignalRequest::Upgrade) => handles.upgrade.request(),
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
