//! Writes audit events: all threads put them into a queue, and one thread writes.
//!
//! A full disk or a pipe that is not read must not delay a request or a cut. So if the queue is full or a write fails,
//! events are lost. The log says when that begins, and when it ends and how many were lost.

use super::TARGET;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use std::fmt::{self, Debug, Write as _};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

/// Where audit events are written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Destination {
    /// Nowhere.
    None,
    /// Standard output, separate from the log.
    Stdout,
    /// Standard error, mixed with the log.
    Stderr,
    /// Appended to a file.
    File(PathBuf),
}

/// The capacity of the queue. A mass cut may write this many events at once.
const MAX_WAITING: usize = 100_000;

/// How long writing the queue may take when idlegate stops.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Writes audit events. Dropping it writes the queued events first.
#[derive(Debug)]
pub struct Sink {
    queue: Option<EventQueue>,
}

#[derive(Clone, Debug)]
struct EventQueue {
    sender: Sender<SinkMessage>,
    tally: Arc<Tally>,
}

#[derive(Debug, Default)]
struct Tally {
    waiting: AtomicUsize,
    /// Records lost since the last report of losses.
    lost: AtomicU64,
}

enum SinkMessage {
    Line(String),
    /// Signals when everything queued before it is written.
    Flush(SyncSender<()>),
}

impl Sink {
    /// Writes nothing.
    #[must_use]
    pub fn none() -> Self {
        Self { queue: None }
    }

    /// Opens the destination and starts the writer thread.
    ///
    /// # Errors
    /// If the file cannot be opened or the thread cannot be started.
    pub fn open(audit: &Destination) -> io::Result<Self> {
        let output = match audit {
            Destination::None => return Ok(Self::none()),
            Destination::Stdout => EventFile::of(io::stdout().as_fd(), "standard output")?,
            Destination::Stderr => EventFile::of(io::stderr().as_fd(), "standard error")?,
            Destination::File(path) => EventFile::open(path).map_err(|error| {
                let fix = "create its folder, and let the user that idlegate runs as write there";
                io::Error::new(error.kind(), format!("{} cannot be opened: {error}; {fix}", path.display()))
            })?,
        };
        let (sender, receiver) = channel();
        let queue = EventQueue { sender, tally: Arc::default() };
        let tally = Arc::clone(&queue.tally);
        std::thread::Builder::new().name("audit".to_owned()).spawn(move || write_all(&receiver, output, &tally))?;
        Ok(Self { queue: Some(queue) })
    }

    /// A tracing layer that takes only audit events.
    #[must_use]
    pub fn layer<S: Subscriber + for<'span> LookupSpan<'span>>(&self) -> Option<impl Layer<S> + use<S>> {
        let filter = Targets::new().with_target(TARGET, LevelFilter::INFO);
        self.queue.clone().map(|queue| queue.with_filter(filter))
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let Some(EventQueue { sender, .. }) = &self.queue else { return };
        let (done, written) = sync_channel(1);
        if sender.send(SinkMessage::Flush(done)).is_ok() && written.recv_timeout(FLUSH_TIMEOUT).is_err() {
            tracing::error!("the last audit events could not be written before the exit");
        }
    }
}

impl<S: Subscriber> Layer<S> for EventQueue {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = EventLine(String::new());
        event.record(&mut line);
        line.0.push('\n');
        let Self { sender, tally } = self;
        if tally.waiting.fetch_add(1, Ordering::Relaxed) < MAX_WAITING {
            // This fails only if the writer thread has panicked.
            let _ = sender.send(SinkMessage::Line(line.0));
            return;
        }
        tally.waiting.fetch_sub(1, Ordering::Relaxed);
        if tally.lost.fetch_add(1, Ordering::Relaxed) == 0 {
            // From another thread: an event inside an event would disturb its filters.
            let _ = std::thread::Builder::new().spawn(|| {
                tracing::error!("audit events are lost: the destination is too slow or blocked");
            });
        }
    }
}

/// The message of an event.
struct EventLine(String);

impl Visit for EventLine {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            // Writing to a `String` does not fail.
            let _ = write!(self.0, "{value:?}");
        }
    }
}

/// The writer thread.
fn write_all(queue: &Receiver<SinkMessage>, mut output: EventFile, tally: &Tally) {
    let mut failing = false;
    while let Ok(message) = queue.recv() {
        let line = match message {
            SinkMessage::Line(line) => line,
            SinkMessage::Flush(done) => {
                let _ = done.send(());
                continue;
            }
        };
        tally.waiting.fetch_sub(1, Ordering::Relaxed);
        if let Err(error) = output.write(&line) {
            tally.lost.fetch_add(1, Ordering::Relaxed);
            if !std::mem::replace(&mut failing, true) {
                tracing::error!(
                    %error,
                    "audit events cannot be written to {output} and are lost; sessions are still cut"
                );
            }
            continue;
        }
        failing = false;
        let lost = tally.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(lost, "audit events are written again; some were lost");
        }
    }
}

/// An open file, pipe or terminal.
struct EventFile {
    file: File,
    name: String,
    /// The path and identity of an opened file.
    place: Option<(PathBuf, Identity)>,
    /// The last line was written only in part.
    torn: bool,
}

type Identity = (u64, u64);

impl EventFile {
    fn of(descriptor: impl AsFd, name: &str) -> io::Result<Self> {
        let file = File::from(descriptor.as_fd().try_clone_to_owned()?);
        Ok(Self { file, name: name.to_owned(), place: None, torn: false })
    }

    fn open(path: &Path) -> io::Result<Self> {
        // Audit events name clients, so only the owner may read them.
        let options = OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(options).open(path)?;
        // Only the open is non-blocking, so that a FIFO without a reader is an error. Writes block.
        fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
        let place = Some((path.to_owned(), identity(&file.metadata()?)));
        Ok(Self { file, name: path.display().to_string(), place, torn: false })
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        self.follow_rotation();
        if self.torn {
            self.file.write_all(b"\n")?;
            self.torn = false;
        }
        let mut rest = line.as_bytes();
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    rest = rest.get(count..).unwrap_or_default();
                    self.torn = !rest.is_empty();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reopens the file after a log rotation has moved it away. If a new file cannot be opened, the old one stays in
    /// use.
    fn follow_rotation(&mut self) {
        let Some((path, opened)) = &self.place else { return };
        if std::fs::metadata(path).is_ok_and(|there| identity(&there) == *opened) {
            return;
        }
        if let Ok(output) = Self::open(path) {
            *self = output;
        }
    }
}

impl fmt::Display for EventFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    fn send(line: usize, queue: &EventQueue) {
        let subscriber = tracing_subscriber::registry().with(queue.clone());
        tracing::subscriber::with_default(subscriber, || tracing::info!(target: TARGET, "{line}"));
    }

    #[test]
    fn only_audit_events_are_written_and_all_before_the_exit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        std::fs::write(&path, "before\n").unwrap();
        let sink = Sink::open(&Destination::File(path.clone())).unwrap();
        let subscriber = tracing_subscriber::registry().with(sink.layer());
        tracing::subscriber::with_default(subscriber, || {
            for number in 0..1000 {
                tracing::info!(target: TARGET, number, "{{\"number\":{number}}}");
                tracing::error!("not an audit event");
                tracing::debug!(target: TARGET, "nor this");
            }
        });
        drop(sink);
        let expected = (0..1000).map(|number| format!("{{\"number\":{number}}}\n")).collect::<Vec<_>>().concat();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("before\n{expected}"));
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o644, "the mode of an existing file is kept");
    }

    #[test]
    fn after_a_rotation_the_next_event_is_in_a_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let [path, rotated] = ["audit.jsonl", "audit.jsonl.1"].map(|name| folder.path().join(name));
        let mut output = EventFile::open(&path).unwrap();
        output.write("one\n").unwrap();
        std::fs::rename(&path, &rotated).unwrap();
        output.write("two\n").unwrap();
        output.write("three\n").unwrap();
        let read = |path| std::fs::read_to_string(path).unwrap();
        assert_eq!([read(&rotated), read(&path)], ["one\n", "two\nthree\n"]);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        // Rotation by copy and truncate.
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        output.write("four\n").unwrap();
        assert_eq!(read(&path), "four\n");
        // No new file can be opened, so the old one is kept.
        std::fs::remove_dir_all(folder.path()).unwrap();
        output.write("five\n").unwrap();
    }

    #[test]
    fn events_beyond_the_queue_are_lost_and_counted() {
        let (sender, receiver) = channel();
        let queue = EventQueue { sender, tally: Arc::default() };
        queue.tally.waiting.store(MAX_WAITING - 1, Ordering::Relaxed);
        for line in 0..4 {
            send(line, &queue);
        }
        assert_eq!(queue.tally.lost.load(Ordering::Relaxed), 3);
        let file = tempfile::NamedTempFile::new().unwrap();
        let tally = Arc::clone(&queue.tally);
        drop(queue);
        write_all(&receiver, EventFile::open(file.path()).unwrap(), &tally);
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "0\n");
        assert_eq!(tally.lost.load(Ordering::Relaxed), 0, "the loss was not reported");
        assert_eq!(tally.waiting.load(Ordering::Relaxed), MAX_WAITING - 1);
    }
}
