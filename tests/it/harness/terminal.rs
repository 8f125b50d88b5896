//! A terminal that a command has as its standard input, or as its controlling terminal.

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::Stdio;

/// The side of it where the person sits.
pub struct Terminal(File);

impl Terminal {
    /// Opens one. Returns its other side as well.
    pub fn open() -> (Self, Stdio) {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let name = ptsname(&person, Vec::new()).unwrap().into_string().unwrap();
        let no_owner = rustix::fs::OFlags::NOCTTY.bits().cast_signed();
        let program = File::options().read(true).write(true).custom_flags(no_owner).open(name).unwrap();
        (Self(File::from(person)), program.into())
    }

    pub fn types(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).unwrap();
    }

    /// Whether it shows what is typed.
    pub fn echoes(&self) -> bool {
        rustix::termios::tcgetattr(&self.0).unwrap().local_modes.contains(rustix::termios::LocalModes::ECHO)
    }

    /// Waits until it has shown this text. Returns all up to there.
    pub fn shows(&mut self, text: &str) -> String {
        let (mut shown, mut byte) = (Vec::new(), [0]);
        while !shown.ends_with(text.as_bytes()) && matches!(self.0.read(&mut byte), Ok(1)) {
            shown.push(byte[0]);
        }
        String::from_utf8(shown).unwrap()
    }

    /// What it has shown, once its other side is closed.
    pub fn shown(mut self) -> String {
        let mut shown = Vec::new();
        // A closed other side is reported as an error.
        let _ = self.0.read_to_end(&mut shown);
        String::from_utf8(shown).unwrap()
    }
}
