//! A wall clock that is wrong, and can be stepped.

use std::path::PathBuf;
use std::process::Command;

/// The wall clock of a process that is started with it. (All other clocks are the system's.)
pub struct HostClock(tempfile::TempDir);

impl HostClock {
    /// One that is so many seconds ahead of the system's.
    pub fn ahead(seconds: i64) -> Self {
        let clock = Self(tempfile::tempdir().unwrap());
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/harness/stepped_clock.c");
        let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(clock.library()).arg(source).status();
        assert!(compiled.unwrap().success());
        clock.step(seconds);
        clock
    }

    /// Steps it to so many seconds ahead of the system's.
    pub fn step(&self, seconds: i64) {
        self.set(&seconds.to_string());
    }

    /// Lets it run faster from now on, by so many millionths.
    pub fn run_fast(&self, millionths: i64) {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        self.set(&format!("0 {millionths} {}", now.as_secs()));
    }

    fn set(&self, text: &str) {
        let next = self.0.path().join("next");
        std::fs::write(&next, text).unwrap();
        std::fs::rename(next, self.file()).unwrap();
    }

    fn library(&self) -> PathBuf {
        self.0.path().join("stepped_clock.so")
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("step")
    }

    /// The environment to start the process with.
    pub fn environment(&self) -> [(&'static str, String); 2] {
        [("LD_PRELOAD", self.library()), ("CLOCK_STEP", self.file())]
            .map(|(name, path)| (name, path.to_str().unwrap().to_owned()))
    }
}
