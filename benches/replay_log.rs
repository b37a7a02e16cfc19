//! Requests per second of a replay on one core, with a generated log of 1,000,000 access lines.
//!
//!     cargo bench --bench replay_log
//!
//! The fastest of three rounds counts. A fourth round has `--suggest`.

use std::error::Error;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use tidegate::replay::{SimulateRequest, simulate};
use tidegate_actors::clock;
use tidegate_config::Sources;

const LINES: u64 = 1_000_000;
const ROUNDS: usize = 3;
/// Some of the requests reach each of these limits.
const CONFIGURATION: &str = "
rate_limit.per_ip.requests_per_second = 60
buckets.photos.auth = [\"anonymous\"]
buckets.photos.s3.endpoints = [\"http://127.0.0.1:9\"]
buckets.photos.rate_limit.requests_per_second = 3000
buckets.photos.s3.concurrency.max_concurrent = 60
buckets.photos.s3.connection_pool.size = 60
buckets.backups.auth = [\"anonymous\"]
buckets.backups.s3.endpoints = [\"http://127.0.0.1:9\"]
";

/// Writes 5,000 requests per second of 100 clients, in the order of their ends.
fn write_log(path: &Path) -> Result<(), Box<dyn Error>> {
    const BEGIN_US: u64 = 1_795_245_000_000_000;
    let mut lines: Vec<(u64, String)> = Vec::new();
    let mut file = BufWriter::new(File::create(path)?);
    for at in 0..LINES {
        // A spread without a pattern (Knuth's multiplicative hash).
        let noise = at.wrapping_mul(2_654_435_761) % 1_000;
        let (start, total) = (at * 200, 2_000 + noise * 20);
        let end_ms = (start + total) / 1_000;
        let (minute, second, milli) = (10 + end_ms / 60_000, end_ms / 1_000 % 60, end_ms % 1_000);
        let (bucket, status) =
            (if noise < 700 { "photos" } else { "backups" }, if noise == 7 { 503 } else { 200 });
        let mut line = String::new();
        writeln!(
            line,
            "{{\"ts\":\"2026-11-21T07:{minute:02}:{second:02}.{milli:03}Z\",\"level\":\"INFO\",\"msg\":\"request\",\"id\":\"{at:016x}\",\
             \"method\":\"GET\",\"path\":\"/{bucket}/2026/11/a%20picture-{at}.jpg\",\"bucket\":\"{bucket}\",\"status\":{status},\
             \"client\":\"10.0.{}.{}\",\"client_source\":\"peer\",\"received_bytes\":0,\"sent_bytes\":48213,\"class\":\"read\",\"cost\":1,\
             \"priority\":\"normal\",\"attempts\":1,\"endpoint\":0,\"admission_us\":36,\"queue_us\":90,\"first_byte_us\":1800,\
             \"start_us\":{},\"total_us\":{total}}}",
            noise % 4,
            noise % 25,
            BEGIN_US + start
        )?;
        lines.push((start + total, line));
        if lines.len() >= 10_000 {
            lines.sort_by_key(|(end, _)| *end);
            for (_, line) in lines.drain(..5_000) {
                file.write_all(line.as_bytes())?;
            }
        }
    }
    lines.sort_by_key(|(end, _)| *end);
    for (_, line) in lines {
        file.write_all(line.as_bytes())?;
    }
    Ok(file.flush()?)
}

/// Requests per second of one replay.
fn round(logs: &[PathBuf], suggests: bool) -> Result<f64, Box<dyn Error>> {
    let config = tidegate_config::load(Sources::default().text("bench.toml", CONFIGURATION))
        .map_err(|problems| problems.to_string())?;
    let request = SimulateRequest { new: &config, old: None, logs, suggests, seed: 1 };
    let began = clock::now();
    let report = simulate(&request, &mut |_| {})?;
    let seconds = clock::now().saturating_duration_since(began).as_secs_f64();
    if report.log.counts.requests != LINES || report.newly_refused == 0 {
        return Err(format!("the log was not replayed: {:?}", report.log.counts).into());
    }
    Ok(1e6 / seconds)
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::temp_dir().join(format!("tidegate-replay-{}", std::process::id()));
    fs::create_dir(&directory)?;
    let logs = [directory.join("access.log")];
    write_log(&logs[0])?;
    let bytes = fs::metadata(&logs[0])?.len();
    let mut best = 0.0_f64;
    for _ in 0..ROUNDS {
        best = best.max(round(&logs, false)?);
    }
    println!(
        "{LINES} lines, {} MiB: {best:.0} requests/s; with --suggest {:.0}",
        bytes >> 20,
        round(&logs, true)?
    );
    fs::remove_dir_all(&directory)?;
    Ok(())
}
