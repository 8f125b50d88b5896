//! Reads a token from standard input, where neither a shell's history nor the list of processes sees it.

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{self, BufRead, IsTerminal, Read, Stdin, Write};
use tokio::signal::unix::{SignalKind, signal};

/// Longer than any token: what is longer is something else.
const MAX_LINE_BYTES: u64 = 64 * 1024;

/// The first line of standard input. At a terminal it is asked for, and not shown.
pub(super) async fn token() -> io::Result<Vec<u8>> {
    // Before echo is turned off: Ctrl-C, or any other end, must turn it on again.
    let mut interrupts = signal(SignalKind::interrupt())?;
    let (mut quits, mut terminations) = (signal(SignalKind::quit())?, signal(SignalKind::terminate())?);
    let hidden = Hidden::new(io::stdin())?;
    if hidden.is_some() {
        write!(io::stderr(), "token (it is not shown): ")?;
    }
    // On a thread of its own, which the process need not wait for.
    let (sender, line) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || sender.send(first_line()));
    let line = tokio::select! {
        line = line => line.unwrap_or_else(|_| Err(io::ErrorKind::UnexpectedEof.into())),
        _ = interrupts.recv() => Err(io::ErrorKind::Interrupted.into()),
        _ = quits.recv() => Err(io::ErrorKind::Interrupted.into()),
        _ = terminations.recv() => Err(io::ErrorKind::Interrupted.into()),
    };
    if hidden.is_some() {
        writeln!(io::stderr())?;
    }
    line
}

fn first_line() -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    io::stdin().lock().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
    Ok(line)
}

/// A terminal that does not show what is typed, until this is dropped.
struct Hidden {
    terminal: Stdin,
    before: Termios,
}

impl Hidden {
    /// Hides what is typed, where `input` is a terminal.
    fn new(input: Stdin) -> io::Result<Option<Self>> {
        if !input.is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(&input)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&input, OptionalActions::Flush, &silent)?;
        Ok(Some(Self { terminal: input, before }))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // A terminal that has gone shows nothing anyway.
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}
