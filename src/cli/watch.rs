//! `idlegate sessions --watch`: the table again every second, until a signal ends it.

use super::client::AdminClient;
use super::error::{CliError, plain};
use super::format;
use super::session::{Listing, list};
use crate::clock::epoch_milliseconds;
use rustix::termios::tcgetwinsize;
use std::io::{self, ErrorKind, IsTerminal, Stdout, Write};
use std::time::{Duration, UNIX_EPOCH};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;

/// The interval between two tables.
const INTERVAL: Duration = Duration::from_secs(1);

/// Shows the table every second. A replica that was reached once may be away: the last table stays, and a line says so.
pub(super) async fn watch(listing: &Listing, client: &AdminClient) -> Result<(), CliError> {
    let mut signals = Signals::new().map_err(CliError::Output)?;
    let watched = tokio::select! {
        watched = repeat(listing, client) => watched,
        () = signals.any() => Ok(()),
    };
    match watched {
        // A reader such as `head` may stop early.
        Err(CliError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        watched => watched,
    }
}

/// Returns on an error alone. Dropped at a signal, it restores the terminal.
async fn repeat(listing: &Listing, client: &AdminClient) -> Result<(), CliError> {
    let mut view = View::new();
    let mut last: Option<Snapshot> = None;
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match (snapshot(listing, client).await, &last) {
            (Ok(snapshot), _) => {
                view.show(&snapshot.at, &snapshot.table).map_err(CliError::Output)?;
                last = Some(snapshot);
            }
            (Err(error @ (CliError::Unreachable(..) | CliError::Unanswered(..))), Some(last)) => {
                let note = format!("no answer since {}: {error}", last.at);
                view.show_away(&note, &last.table).map_err(CliError::Output)?;
            }
            // What was never reached may be a wrong address.
            (Err(error), _) => return Err(error),
        }
    }
}

/// A table, and when it came.
struct Snapshot {
    at: String,
    table: String,
}

async fn snapshot(listing: &Listing, client: &AdminClient) -> Result<Snapshot, CliError> {
    let reply = list(listing, client).await?;
    let table = plain(&format::table(&reply.read()?));
    let now = UNIX_EPOCH + Duration::from_millis(epoch_milliseconds());
    Ok(Snapshot { at: humantime::format_rfc3339_seconds(now).to_string(), table })
}

/// Standard output: a terminal that is painted again, or plain snapshots one after another.
struct View {
    output: Stdout,
    is_painted: bool,
    /// The outage was reported. Plain output has it once.
    is_away: bool,
}

impl View {
    fn new() -> Self {
        let output = io::stdout();
        // A dumb terminal has no cursor to move.
        let is_painted = output.is_terminal() && std::env::var_os("TERM").is_none_or(|name| name != "dumb");
        Self { output, is_painted, is_away: false }
    }

    fn show(&mut self, at: &str, table: &str) -> io::Result<()> {
        self.is_away = false;
        if self.is_painted {
            self.paint(&format!("{at}  Ctrl-C ends"), table)
        } else {
            self.write(&format!("{at}\n{table}\n"))
        }
    }

    fn show_away(&mut self, note: &str, table: &str) -> io::Result<()> {
        let is_new = !std::mem::replace(&mut self.is_away, true);
        if self.is_painted {
            self.paint(note, table)
        } else if is_new {
            self.write(&format!("{note}\n\n"))
        } else {
            Ok(())
        }
    }

    fn paint(&mut self, head: &str, table: &str) -> io::Result<()> {
        let size = tcgetwinsize(&self.output).map_or((0, 0), |size| (size.ws_col.into(), size.ws_row.into()));
        self.write(&screen(&format!("{head}\n\n{table}"), size))
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        self.output.write_all(text.as_bytes())?;
        self.output.flush()
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if self.is_painted {
            // Shows the cursor again. An error means that the terminal is gone.
            let _ = self.write("\x1b[?25h\n");
        }
    }
}

/// Paints `text` over what the terminal shows. Each line is cleared when it is written, so nothing flickers. What does not
/// fit is left out: a line that wraps would move the others. Without a size, a terminal shows everything.
fn screen(text: &str, (columns, rows): (usize, usize)) -> String {
    let columns = if columns == 0 { usize::MAX } else { columns };
    let lines: Vec<_> = text.lines().collect();
    // The cursor is on the line after the text, and one line says what is left out.
    let fitting = if rows == 0 || lines.len() < rows { lines.len() } else { rows.saturating_sub(2) };
    let mut painted = String::from("\x1b[?25l\x1b[H");
    let mut add = |line: &str| {
        painted.extend(line.chars().take(columns));
        painted.push_str("\x1b[K\n");
    };
    lines[..fitting].iter().for_each(|line| add(line));
    if fitting < lines.len() {
        add(&format!("… {} more lines: enlarge the terminal, or leave out --watch", lines.len() - fitting));
    }
    painted.push_str("\x1b[J");
    painted
}

/// The signals that end the command. Once this exists, they do not kill the process, so the terminal is restored.
pub(super) struct Signals([Signal; 4]);

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        let signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()];
        let [interrupt, terminate, hang_up, quit] = signals.map(signal);
        Ok(Self([interrupt?, terminate?, hang_up?, quit?]))
    }

    pub(super) async fn any(&mut self) {
        let [interrupt, terminate, hang_up, quit] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
            _ = quit.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_fits_is_painted_and_the_rest_is_counted() {
        let painted = |text: &str, size| -> Vec<String> {
            let painted = screen(text, size);
            let lines = painted.strip_prefix("\x1b[?25l\x1b[H").unwrap().strip_suffix("\x1b[J").unwrap();
            lines.split_terminator("\x1b[K\n").map(str::to_owned).collect()
        };
        assert_eq!(painted("äbcd\ne\n", (3, 3)), ["äbc", "e"]);
        assert_eq!(painted("a\nb\nc\n", (60, 4)), ["a", "b", "c"]);
        let left_out = "… 2 more lines: enlarge the terminal, or leave out --watch";
        assert_eq!(painted("a\nb\nc\n", (60, 3)), ["a", left_out]);
        assert_eq!(painted("a\nb\n", (60, 1)), [left_out]);
        assert_eq!(painted("a\nb\nc\n", (0, 0)), ["a", "b", "c"]);
    }
}
