//! The binary: configuration, telemetry, gateway, signal, drain, exit code, and nothing else.

mod cli;
mod memcpy;
mod relaunch;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use slog::{Logger, warn};
use tidegate::{Gateway, telemetry};
use tidegate_config::{Config, Loaded, Sources};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::{Arguments, Exit, Verb};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => {
            exit.tell();
            exit.code()
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Exit> {
    let environment = match arguments.verb {
        None => relaunch::settle(arguments.secrets_on_stdin)?,
        Some(_) => tidegate_config::environment(),
    };
    let mut sources = Sources::default().environment(environment);
    if let Some(file) = &arguments.config {
        sources = sources.file(file);
    }
    let Loaded { mut config, warnings } =
        tidegate_config::load_with_warnings(sources).map_err(Exit::Config)?;
    match arguments.verb {
        Some(Verb::Check) => return cli::check(&config, warnings, arguments.strict),
        Some(Verb::Health) => return cli::health(&config),
        None => {}
    }
    let warnings = cli::settle(&config, warnings, arguments.strict)?;
    let (log, _flushed_at_the_end) = telemetry::log::build(&config.log)?;
    cli::log(&warnings, &log);
    let _last_panic_logged = telemetry::panics::log_panics(log.clone())?;
    let origin = embedded_origin(&mut config)?;
    let demo = origin.is_some();
    actix_rt::System::new().block_on(serve(config, log, demo))
}

async fn serve(config: Config, log: Logger, demo: bool) -> Result<(), Exit> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let scheme = if config.server.tls.files().is_some() { "https" } else { "http" };
    let running = Gateway::start(config, log.clone())?;
    if demo {
        cli::welcome(scheme, running.address, running.admin);
    }
    either(&mut terminate, &mut interrupt).await;
    tokio::select! {
        cut_off = running.stop() => if cut_off == 0 { Ok(()) } else { Err(Exit::CutOff(cut_off)) },
        () = either(&mut terminate, &mut interrupt) => {
            warn!(log, "second signal: ending at once");
            Err(Exit::Impatient)
        }
    }
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// With no bucket configured, a bucket `demo` on a real S3 server inside the process.
#[cfg(feature = "origin")]
fn embedded_origin(config: &mut Config) -> Result<Option<tidegate::origin::Origin>, Exit> {
    if !config.buckets.is_empty() {
        return Ok(None);
    }
    let origin = tidegate::origin::start(Path::new("tidegate-data"), "demo")?;
    let secret = tidegate_config::Secret::new(origin.secret_access_key.clone());
    config.add_demo(origin.address.port(), origin.access_key_id.clone(), secret);
    Ok(Some(origin))
}

#[cfg(not(feature = "origin"))]
fn embedded_origin(config: &mut Config) -> Result<Option<&'static Path>, Exit> {
    if config.buckets.is_empty() { Err(Exit::NoBuckets) } else { Ok(None) }
}
