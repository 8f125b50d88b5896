//! The log on stderr. Logging never blocks, even if stderr is a pipe that is not read.

mod logfmt;

use crate::audit::{self, Sink};
use crate::counted::counted;
use logfmt::Logfmt;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, OnceLock};
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

/// How many lines may be queued. Further lines are lost.
const MAX_LINES: usize = 10_000;

/// The format of log lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogFormat {
    /// A sentence and `key=value` fields, for people and logfmt parsers.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts the log on stderr, and the audit events to `audit`. Returns a guard that must live as long as anything is
/// logged, and a function that changes the level.
pub fn begin(level: LevelFilter, format: LogFormat, audit: &Sink) -> (WorkerGuard, impl Fn(LevelFilter) + use<>) {
    let (stderr, written) = non_blocking(io::stderr(), MAX_LINES, format);
    // Libraries log only warnings and errors: the rest is not about sessions.
    let targets = |level: LevelFilter| {
        Targets::new()
            .with_target("idlegate", level)
            .with_target(audit::TARGET, LevelFilter::OFF)
            .with_default(level.min(LevelFilter::WARN))
    };
    let (filter, handle) = reload::Layer::new(targets(level));
    let lines = tracing_subscriber::fmt::layer().with_writer(stderr).with_target(false);
    let lines: Box<dyn Layer<_> + Send + Sync> = match format {
        LogFormat::Text => Box::new(lines.with_ansi(is_coloured()).fmt_fields(Logfmt)),
        LogFormat::Json => Box::new(lines.with_ansi(false).json().flatten_event(true)),
    };
    tracing_subscriber::registry().with(lines.with_filter(filter)).with(audit.layer()).init();
    let level = move |level| {
        // This fails only after the log has stopped.
        let _ = handle.reload(targets(level));
    };
    (written, level)
}

/// Only a terminal gets colours, unless `NO_COLOR` is set (<https://no-color.org>).
fn is_coloured() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A writer that never blocks: a separate thread writes. Up to `capacity` lines are queued, and further lines are lost.
fn non_blocking(to: impl Write + Send + 'static, capacity: usize, format: LogFormat) -> (NonBlocking, WorkerGuard) {
    // The counter of lost lines is made together with the thread that reports them.
    let lost = Arc::new(OnceLock::new());
    let lines = LogLines { to, lost: Arc::clone(&lost), reported: 0, format };
    let (writer, written) = NonBlockingBuilder::default().buffered_lines_limit(capacity).finish(lines);
    let _ = lost.set(writer.error_counter());
    (writer, written)
}

/// The output of the writer thread.
struct LogLines<W> {
    to: W,
    lost: Arc<OnceLock<ErrorCounter>>,
    /// How many lost lines were reported.
    reported: usize,
    format: LogFormat,
}

impl<W: Write> Write for LogLines<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write(bytes)
    }

    /// Called when the queue is empty. Lost lines would have come next, so they are reported here.
    fn flush(&mut self) -> io::Result<()> {
        let lost = self.lost.get().map_or(0, ErrorCounter::dropped_lines);
        if lost > self.reported {
            let mut time = String::new();
            // If the time cannot be formatted, the line is written without it.
            let _ = SystemTime.format_time(&mut Writer::new(&mut time));
            let lines = counted(lost - self.reported, "line");
            let message =
                format!("{lines} of the log are missing here: stderr was not read as fast as lines were written");
            match self.format {
                LogFormat::Text => writeln!(self.to, "{time}  WARN {message}"),
                LogFormat::Json => {
                    let line = serde_json::json!({ "timestamp": time, "level": "WARN", "message": message });
                    writeln!(self.to, "{line}")
                }
            }?;
            self.reported = lost;
        }
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    /// A pipe that is not read while it is locked.
    #[derive(Clone, Default)]
    struct Pipe(Arc<Mutex<Vec<u8>>>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lost_lines_are_counted_where_they_are_missing() {
        let pipe = Pipe::default();
        let (mut log, written) = non_blocking(pipe.clone(), 3, LogFormat::Text);
        let unread = pipe.0.lock();
        for number in 0..20 {
            // In one write, like a log line: each write counts as one line.
            log.write_all(format!("line {number}\n").as_bytes()).unwrap();
        }
        let lost = log.error_counter().dropped_lines();
        drop(unread);
        drop(written);
        let text = String::from_utf8(pipe.0.lock().clone()).unwrap();
        let lines: Vec<_> = text.lines().collect();
        let (last, whole) = lines.split_last().unwrap();
        // The writer thread may hold one line.
        assert!((16..=17).contains(&lost), "{lost} lost: {text}");
        let kept: Vec<_> = (0..20 - lost).map(|number| format!("line {number}")).collect();
        assert_eq!(whole, kept);
        let said = format!("  WARN {lost} lines of the log are missing here: ");
        assert!(last.contains(&said) && last.starts_with("20"), "{last}");
    }
}
