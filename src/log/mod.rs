//! The log on stderr. Logging never waits for a pipe without a reader.

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

/// How many lines may wait to be written. More are lost.
const MAX_LINES: usize = 10_000;

/// How the lines of the log are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogFormat {
    /// For people, and readers of logfmt: a sentence, and `key=value`.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Logs to stderr from now on, and audit events to `audit`. Returns a guard that must live as long as anything is
/// logged, and a function that changes the level.
pub fn begin(level: LevelFilter, format: LogFormat, audit: &Sink) -> (WorkerGuard, impl Fn(LevelFilter) + use<>) {
    let (stderr, written) = unhurried(io::stderr(), MAX_LINES, format);
    // Lines of libraries below WARN are about themselves, not about sessions.
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
        // It fails where nothing is logged any more.
        let _ = handle.reload(targets(level));
    };
    (written, level)
}

/// Colours only on a terminal, and only without `NO_COLOR` (<https://no-color.org>).
fn is_coloured() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A writer that never blocks: its own thread writes, and lines beyond the queue's limit are lost.
fn unhurried(to: impl Write + Send + 'static, max: usize, format: LogFormat) -> (NonBlocking, WorkerGuard) {
    // The counter of lost lines is created together with the thread that reports them.
    let lost = Arc::new(OnceLock::new());
    let lines = Lines { to, lost: Arc::clone(&lost), reported: 0, format };
    let (writer, written) = NonBlockingBuilder::default().buffered_lines_limit(max).finish(lines);
    let _ = lost.set(writer.error_counter());
    (writer, written)
}

/// Where the thread writes.
struct Lines<W> {
    to: W,
    lost: Arc<OnceLock<ErrorCounter>>,
    /// How many lost lines have been reported.
    reported: usize,
    format: LogFormat,
}

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write(bytes)
    }

    /// Called when no line waits any more: those that were lost would stand here.
    fn flush(&mut self) -> io::Result<()> {
        let lost = self.lost.get().map_or(0, ErrorCounter::dropped_lines);
        if lost > self.reported {
            let mut time = String::new();
            // Without the time, the line is still true.
            let _ = SystemTime.format_time(&mut Writer::new(&mut time));
            let lines = counted(lost - self.reported, "line");
            let message = format!("{lines} of the log are lost here: they came faster than they could be written");
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

    /// A pipe without a reader while it is locked.
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
    fn lines_that_are_lost_are_counted_where_they_are_missing() {
        let pipe = Pipe::default();
        let (mut log, written) = unhurried(pipe.clone(), 3, LogFormat::Text);
        let unread = pipe.0.lock();
        for number in 0..20 {
            // At once, as a line of the log is: each write counts as one.
            log.write_all(format!("line {number}\n").as_bytes()).unwrap();
        }
        let lost = log.error_counter().dropped_lines();
        drop(unread);
        drop(written);
        let text = String::from_utf8(pipe.0.lock().clone()).unwrap();
        let lines: Vec<_> = text.lines().collect();
        let (last, whole) = lines.split_last().unwrap();
        // One may be in the thread's hand.
        assert!((16..=17).contains(&lost), "{lost} lost: {text}");
        let kept: Vec<_> = (0..20 - lost).map(|number| format!("line {number}")).collect();
        assert_eq!(whole, kept);
        let said = format!("  WARN {lost} lines of the log are lost here: ");
        assert!(last.contains(&said) && last.starts_with("20"), "{last}");
    }
}
