//! The command line: parses the arguments, runs the command, and returns an exit code.
//!
//! 0: all ranges held. 1: a range was missed, and the report names it. 2: the run failed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::compare::{self, Comparison};
use crate::instructions::Count;
use crate::run::{self, RunError};
use crate::scenario::Scenario;
use crate::{bench_config, process, report};

/// Load tests for tidegate: scenarios as data, latency from the intended send time.
#[derive(Debug, Parser)]
#[command(name = "loadtest")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a scenario; exit code 1 if one of its ranges is missed.
    Run(RunArguments),
    /// List the scenarios.
    List {
        #[command(flatten)]
        folder: Folder,
    },
    /// Compare tidegate with nginx and `HAProxy`, if they are on the PATH; prints Markdown.
    Compare(CompareArguments),
    /// Count the instructions of one request with callgrind; exit code 1 if one of the counts is above its recorded one.
    Instructions(InstructionsArguments),
    /// Print tidegate's configuration for a bench with upstreams on ports 19000 to 19007.
    BenchConfig {
        /// Data port; the admin port is five above it.
        #[arg(long, default_value_t = 18_070)]
        port: u16,
        /// Access log.
        #[arg(long)]
        log: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
struct Folder {
    /// Folder of scenarios.
    #[arg(long = "scenarios", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios"))]
    path: PathBuf,
}

#[derive(Debug, Args)]
struct RunArguments {
    /// Name of the scenario.
    name: String,
    /// Factor for the lengths of steps; rates stay.
    #[arg(long, default_value_t = 1.0, value_parser = positive)]
    scale: f64,
    /// Factor for the rates of loads, for a slow machine.
    #[arg(long, default_value_t = 1.0, value_parser = positive)]
    rates: f64,
    /// Factor for upper bounds of latencies, for a shared machine.
    #[arg(long, default_value_t = 1.0, value_parser = positive)]
    latency_tolerance: f64,
    /// The gateway's binary; default: `tidegate` next to this program.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Write statistics, readings and verdicts to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    #[command(flatten)]
    folder: Folder,
}

#[derive(Debug, Args)]
struct CompareArguments {
    /// Number of valid rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Length of one measurement.
    #[arg(long, default_value_t = 4.0, value_parser = positive)]
    seconds: f64,
    /// Discard rounds in which unrelated processes used more cores than this.
    #[arg(long, default_value_t = 0.3, value_parser = positive)]
    other_cores: f64,
    /// Only these workloads.
    #[arg(long, value_delimiter = ',')]
    workloads: Vec<String>,
    /// The gateway's binary; default: `tidegate` next to this program.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Write every round to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct InstructionsArguments {
    /// The gateway's binary; default: `tidegate` next to this program.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Also count the path without guards; takes a binary with the feature `bench`.
    #[arg(long)]
    raw: bool,
    /// Also count requests over HTTP/2 in TLS.
    #[arg(long)]
    http2: bool,
    /// The file of recorded counts.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.toml"))]
    baseline: PathBuf,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number),
        _ => Err("must be a number above zero".to_owned()),
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    process::raise_descriptor_limit();
    let outcome = match Cli::parse().command {
        Command::Run(arguments) => run_scenario(arguments),
        Command::List { folder } => list(&folder.path),
        Command::Compare(arguments) => compare_proxies(arguments),
        Command::Instructions(arguments) => count_instructions(arguments),
        Command::BenchConfig { port, log } => {
            let log = log.unwrap_or_else(|| std::env::temp_dir().join("tidegate-bench-access.log"));
            print!("{}", bench_config::text(port, &log));
            Ok(ExitCode::SUCCESS)
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("loadtest: {error}");
        ExitCode::from(2)
    })
}

fn run_scenario(arguments: RunArguments) -> Result<ExitCode, RunError> {
    let scenario = Scenario::read(&arguments.folder.path, &arguments.name)?.scaled(arguments.scale);
    let scenario = scenario.with_rates(arguments.rates);
    let binary = absolute(arguments.binary)?;
    let findings = run::run(&arguments.name, &scenario, &binary, arguments.latency_tolerance)?;
    println!("{}", report::text(&scenario, &findings));
    if let Some(path) = arguments.json {
        report::write_json(&path, &findings)?;
    }
    Ok(if findings.held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn list(folder: &Path) -> Result<ExitCode, RunError> {
    for name in Scenario::names(folder)? {
        println!("{name:<16} {}", Scenario::read(folder, &name)?.about);
    }
    Ok(ExitCode::SUCCESS)
}

fn compare_proxies(arguments: CompareArguments) -> Result<ExitCode, RunError> {
    let comparison = Comparison {
        binary: absolute(arguments.binary)?,
        rounds: arguments.rounds,
        seconds: arguments.seconds,
        other_cores_max: arguments.other_cores,
        only: arguments.workloads,
    };
    let results = compare::run(&comparison)?;
    print!("{}", compare::markdown(&results));
    if let Some(path) = arguments.json {
        report::write_json(&path, &results)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn count_instructions(arguments: InstructionsArguments) -> Result<ExitCode, RunError> {
    let InstructionsArguments { binary, raw, http2, baseline } = arguments;
    let held = Count { binary: absolute(binary)?, raw, http2, baseline }.run()?;
    Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The absolute path of the binary, because the gateway starts in another working directory.
fn absolute(binary: Option<PathBuf>) -> std::io::Result<PathBuf> {
    match binary {
        Some(path) => std::path::absolute(path),
        None => Ok(std::env::current_exe()?.with_file_name("tidegate")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_valid_and_refuses_invalid_numbers() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
        assert!(Cli::try_parse_from(["loadtest", "run", "steady", "--scale", "0.2"]).is_ok());
        for invalid in ["0", "x", "inf"] {
            let error = Cli::try_parse_from(["loadtest", "run", "steady", "--scale", invalid]).unwrap_err();
            assert!(error.to_string().contains("--scale"), "{error}");
        }
    }
}
