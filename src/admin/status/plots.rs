//! `GET /status/plots` and `GET /status/plot.svg`: series of the history as images, drawn by the gateway (X7).
//!
//! The first is a part of the page: figures with an image and a table each. The second is one image, for other pages and for
//! reports. Both show series of `/status/history` and nothing else.

use std::rc::Rc;

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use slog::error;

use super::history::{History, PlotFault};
use super::stream::StatusFeed;
use crate::admin::decisions::invalid_parameter;
use crate::admin::decisions::parameters::{InvalidParameter, Parameters, invalid};
use crate::admin::page;
use crate::http::error::{AdminStatus, admin_error_reply, text_reply};
use crate::http::request_id;
use crate::plots::{self, Plot, PlotError};
use crate::request_head::HeaderView;
use crate::worker::Worker;
use crate::worker::slot::CurrentWorker;

const OF_FIGURES: [&str; 1] = ["bucket"];
const OF_IMAGE: [&str; 1] = ["series"];
/// The plots of one bucket: the title, and the series with the end of their names.
const OF_BUCKET: [(&str, &[&str]); 4] = [
    ("Latency", &["p50", "p95", "p99"]),
    ("Requests and errors per second", &["requests_per_second", "errors_per_second"]),
    ("In flight and queued", &["in_flight", "queued"]),
    ("Wait in the queue", &["queue_wait"]),
];
/// The plots of the process besides those of its sensors.
const OF_PROCESS: [(&str, &[&str]); 3] = [
    ("Requests and refusals per second", &["requests_per_second", "refusals_per_second"]),
    ("Waits inside the gateway", &["event_loop_lag", "mailbox_wait"]),
    ("Shedding cursor", &["shedding_cursor"]),
];

/// `GET /status/plots?bucket=`: sensors, load and waits of the process, or latency, load and wait of one bucket.
pub(crate) async fn figures(
    request: HttpRequest,
    feed: Data<Rc<StatusFeed>>,
    CurrentWorker(worker): CurrentWorker,
) -> HttpResponse {
    let plots = Parameters::parse(request.query_string(), &OF_FIGURES).and_then(|query| {
        let plots = feed.read_history(|history| match query.text("bucket") {
            Some(bucket) => of_bucket(history, bucket),
            None => of_process(history),
        });
        plots.map_err(|_| {
            invalid("bucket", "not a bucket with series of its own; /status/history has all names")
        })
    });
    let draw = |plots: Vec<Plot>| plots.iter().map(plots::figure).collect::<Result<String, _>>();
    reply(&request, &worker, plots.map(draw), "text/html; charset=utf-8")
}

/// `GET /status/plot.svg?series=`: one image of up to four series, which are separated by commas.
pub(crate) async fn image(
    request: HttpRequest,
    feed: Data<Rc<StatusFeed>>,
    CurrentWorker(worker): CurrentWorker,
) -> HttpResponse {
    let plot = Parameters::parse(request.query_string(), &OF_IMAGE).and_then(|query| {
        let list = query.text("series").unwrap_or_default();
        let names: Vec<&str> = list.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        if names.is_empty() {
            return Err(invalid("series", "empty; name a series of /status/history"));
        }
        let plot = feed.read_history(|history| history.plot(&names.join(", "), &names));
        plot.map_err(|fault| invalid("series", fault.to_string()))
    });
    reply(&request, &worker, plot.map(|plot| plots::svg(&plot)), "image/svg+xml")
}

fn of_process(history: &History) -> Result<Vec<Plot>, PlotFault> {
    let sensors = history.sensors().map(|name| {
        let sensor = name.trim_start_matches("sensor.");
        history.plot(&format!("{}, % of its limit", title(sensor)), &[name])
    });
    // Before the first sample there are no series.
    if history.names().next().is_none() {
        return Ok(Vec::new());
    }
    let others = OF_PROCESS.into_iter().map(|(title, names)| history.plot(title, names));
    sensors.chain(others).collect()
}

fn of_bucket(history: &History, bucket: &str) -> Result<Vec<Plot>, PlotFault> {
    let plot = |(title, ends): (&str, &[&str])| {
        let names: Vec<String> = ends.iter().map(|end| format!("bucket.{bucket}.{end}")).collect();
        history.plot(title, &names.iter().map(String::as_str).collect::<Vec<_>>())
    };
    OF_BUCKET.into_iter().map(plot).collect()
}

/// A name as the begin of a title.
fn title(name: &str) -> String {
    let words = name.replace('_', " ");
    let first = words.get(..1).map(str::to_ascii_uppercase).unwrap_or_default();
    first + words.get(1..).unwrap_or_default()
}

fn reply(
    request: &HttpRequest,
    worker: &Worker,
    drawn: Result<Result<String, PlotError>, InvalidParameter>,
    content_type: &'static str,
) -> HttpResponse {
    let mut reply = match drawn {
        Ok(Ok(text)) => text_reply(content_type, Bytes::from(text)),
        Ok(Err(error)) => {
            error!(worker.process.log, "a plot of the status could not be drawn"; "error" => %error,
                "hint" => "this is a defect: report it; /status/history has the same values");
            let id = request_id::of(HeaderView::of(request.headers()));
            admin_error_reply(AdminStatus::Unavailable, "plot_failed", &error.to_string(), &id)
        }
        Err(error) => invalid_parameter(request, &error),
    };
    page::protect(&mut reply);
    reply
}
