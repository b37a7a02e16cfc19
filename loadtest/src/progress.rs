//! The progress line on standard error: rewritten in place on a terminal, otherwise a new line every five seconds.

use std::convert::Infallible;
use std::io::{IsTerminal as _, Write as _, stderr};
use std::time::Duration;

use crate::process::ServingId;
use crate::step::StepTallies;
use crate::{clock, usage};

const ON_TERMINAL: Duration = Duration::from_millis(500);
const ELSEWHERE: Duration = Duration::from_secs(5);

/// Shows `tallies` until dropped.
pub(crate) async fn show(tallies: &StepTallies, gateway: &ServingId) -> Infallible {
    let terminal = stderr().is_terminal();
    let _line = terminal.then(|| Line);
    loop {
        tokio::time::sleep(if terminal { ON_TERMINAL } else { ELSEWHERE }).await;
        let text = line(tallies, gateway.get());
        // A write error does not fail the run.
        let _ = if terminal { write!(stderr(), "\r{text}\x1b[K") } else { writeln!(stderr(), "{text}") };
    }
}

fn line(tallies: &StepTallies, gateway: u32) -> String {
    let seconds = (clock::now() - tallies.begin).as_secs();
    let rss_mib = usage::rss_mib(&[gateway]);
    let mut text = format!("{} {seconds} s, {rss_mib:.0} MiB", tallies.step);
    for offering in &tallies.offerings {
        text.push_str(&format!(" | {}: {}", offering.name, offering.recorder.borrow().progress_line()));
    }
    match tallies.storm.borrow().ordered() {
        0 => {}
        ordered => text.push_str(&format!(" | {ordered} crashes")),
    }
    text
}

/// Clears the line at the end of the step.
struct Line;

impl Drop for Line {
    fn drop(&mut self) {
        let _ = write!(stderr(), "\r\x1b[K");
    }
}
