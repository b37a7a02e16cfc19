//! The access log: one line for each request, with the level, the format and the output of the other lines.
//!
//! Every request writes a line, so it does not pass slog's serializer, which calls a function for each field through a table.

use slog::Level;

use super::sink::Sink;
use super::{LevelFilter, LineFormat};
use crate::telemetry::fields::{Line, LineFields};
use crate::telemetry::json::JsonDrain;
use crate::telemetry::terminal::TerminalDrain;

/// The message of each line.
const MESSAGE: &str = "request";

/// Writes the access lines.
pub(crate) struct AccessLog {
    format: AccessFormat,
    level: LevelFilter,
}

enum AccessFormat {
    Json(JsonDrain),
    Terminal(TerminalDrain),
}

impl AccessLog {
    pub(super) fn new(format: LineFormat, sink: Sink, level: LevelFilter) -> Self {
        let format = match format {
            LineFormat::Json => AccessFormat::Json(JsonDrain::new(sink)),
            LineFormat::Terminal(style) => AccessFormat::Terminal(TerminalDrain::new(sink, style)),
        };
        Self { format, level }
    }

    /// Writes a line, unless `log.level` leaves it out.
    pub(crate) fn write(&self, fields: &impl LineFields) {
        if !self.level.keeps(Level::Info) {
            return;
        }
        let line = Line { level: Level::Info, message: MESSAGE, fields };
        match &self.format {
            AccessFormat::Json(drain) => drain.write(&line),
            AccessFormat::Terminal(drain) => drain.write(&line),
        }
    }
}

#[cfg(test)]
mod tests {
    use slog::{Drain, Logger, info, o};
    use tidegate_config::LogLevel;

    use super::*;
    use crate::telemetry::fields::{FieldFormat, Fields};
    use crate::telemetry::terminal::Style;

    struct Sample;

    impl LineFields for Sample {
        fn write<F: FieldFormat>(&self, fields: &mut Fields<'_, F>) {
            fields.text("id", "a\n\"b");
            fields.text("empty", "");
            fields.optional_text("none", None);
            fields.optional_text("some", Some("x y"));
            fields.word("word", "a_b.1");
            fields.optional_word("no_word", None);
            fields.number("status", 200_u16);
            fields.optional_number("bytes", Some(0_u64));
            fields.optional_number("no_number", None::<u64>);
            fields.display("shown", &format_args!("{}, {}", 1, 2));
        }
    }

    fn log_with_slog(log: &Logger) {
        let none: Option<&str> = None;
        info!(log, "request"; "shown" => %format_args!("{}, {}", 1, 2), "no_number" => none, "bytes" => 0_u64,
            "status" => 200_u16, "no_word" => none, "word" => "a_b.1", "some" => "x y", "none" => none, "empty" => "", "id" => "a\n\"b");
    }

    /// The line without its time.
    fn after_time(line: &str) -> String {
        line.split_once("Z").unwrap().1.to_owned()
    }

    /// O2: an access line is the line that slog's macro would write, in each format
    #[test]
    fn a_line_is_that_of_slog() {
        for format in
            [LineFormat::Json, LineFormat::Terminal(Style::Plain), LineFormat::Terminal(Style::Colored)]
        {
            let (sink, text) = Sink::in_memory();
            AccessLog::new(format, sink, LevelFilter::new(LogLevel::Info)).write(&Sample);
            let (sink, expected) = Sink::in_memory();
            match format {
                LineFormat::Json => log_with_slog(&Logger::root(JsonDrain::new(sink).fuse(), o!())),
                LineFormat::Terminal(style) => {
                    log_with_slog(&Logger::root(TerminalDrain::new(sink, style).fuse(), o!()));
                }
            }
            assert_eq!(after_time(&text()), after_time(&expected()));
            assert!(text().contains("request"), "{}", text());
        }
    }

    /// O2: `log.level = "warn"` leaves the lines out
    #[test]
    fn the_level_leaves_lines_out() {
        let (sink, text) = Sink::in_memory();
        AccessLog::new(LineFormat::Json, sink, LevelFilter::new(LogLevel::Warn)).write(&Sample);
        assert_eq!(text(), "");
    }
}
