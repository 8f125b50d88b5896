//! Reads a token from standard input, so that it appears neither in the shell's history nor in the process list.

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{self, BufRead, IsTerminal, Read, Stdin, Write};
use tokio::signal::unix::{SignalKind, signal};

/// Longer than any token.
const MAX_LINE_BYTES: u64 = 64 * 1024;

/// Reads the first line of standard input. At a terminal it prompts and does not echo the input.
pub(super) async fn token() -> io::Result<Vec<u8>> {
    // Before echo is turned off: these signals must end the prompt, not the process, so that echo is restored.
    let mut interrupts = signal(SignalKind::interrupt())?;
    let (mut quits, mut terminations) = (signal(SignalKind::quit())?, signal(SignalKind::terminate())?);
    let hidden = Hidden::new(io::stdin())?;
    if hidden.is_some() {
        write!(io::stderr(), "token (not shown): ")?;
    }
    // On its own thread: the process does not wait for it at exit.
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

/// Turns off a terminal's echo until dropped.
struct Hidden {
    terminal: Stdin,
    before: Termios,
}

impl Hidden {
    /// Turns off echo if `input` is a terminal.
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
        // An error means that the terminal is gone.
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}
