//! Runs the actors under the seeded scheduler.
//!
//! `--steps N` is the total number of steps, 10,000 for each seed, starting with `--seed S`. With `--reloads` as the first
//! argument, the configuration changes meanwhile, and a seed has 2,000 steps. With `--handover`, a second process takes over in
//! each seed of 2,000 steps. A violated invariant ends the run with its trace, its seed and exit code 1.

use std::process::ExitCode;

use tidegate_actors::simulation::handover::simulate_hand_overs;
use tidegate_actors::simulation::reload::simulate_reloads;
use tidegate_actors::simulation::simulate;

const USAGE: &str = "usage: simulate [--reloads | --handover] [--steps N] [--seed S]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_first = |option: &str| arguments.first().is_some_and(|first| first == option);
    let (with_reloads, with_hand_over) = (is_first("--reloads"), is_first("--handover"));
    let Some((steps, seed)) = parse(&arguments[usize::from(with_reloads || with_hand_over)..]) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let report = if with_reloads {
        simulate_reloads(seed, steps).map(|report| format!("{report:?}"))
    } else if with_hand_over {
        simulate_hand_overs(seed, steps).map(|report| format!("{report:?}"))
    } else {
        simulate(seed, steps).map(|report| format!("{report:?}"))
    };
    match report {
        Ok(report) => {
            println!("no invariant was violated, first seed {seed}: {report}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the number of steps and the first seed.
fn parse(arguments: &[String]) -> Option<(u64, u64)> {
    let (mut steps, mut seed) = (10_000_000, 1);
    for pair in arguments.chunks(2) {
        let [name, value] = pair else { return None };
        let number = value.parse().ok()?;
        match name.as_str() {
            "--steps" => steps = number,
            "--seed" => seed = number,
            _ => return None,
        }
    }
    Some((steps, seed))
}
