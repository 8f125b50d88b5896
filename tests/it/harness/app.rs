//! The Tornado stand-in for the first app.

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A running stand-in; ended when dropped.
pub struct App {
    child: Child,
    /// Where it listens, as idlegate's `upstream` says it.
    pub upstream: String,
    log: tempfile::NamedTempFile,
}

impl App {
    /// Starts it on a port of the system's choice.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_in("UTC", arguments)
    }

    /// Starts it with another idea of what the time is.
    pub fn start_in(timezone: &str, arguments: &[&str]) -> Self {
        let log = tempfile::NamedTempFile::new().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        let mut child = Command::new(python())
            .arg(root.join("app/app.py"))
            .args(arguments)
            .arg("--log")
            .arg(log.path())
            .env("TZ", timezone)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let place =
            ready.trim().strip_prefix("ready ").unwrap_or_else(|| panic!("the stand-in did not start: {ready:?}"));
        let upstream =
            if place.starts_with('/') { format!("unix:{place}") } else { format!("http://127.0.0.1:{place}") };
        Self { child, upstream, log }
    }

    /// All that it saw, in order.
    pub fn seen(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.log.path()).unwrap();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// What it saw of one kind.
    pub fn seen_of(&self, event: &str) -> Vec<Value> {
        self.seen().into_iter().filter(|seen| seen["seen"] == event).collect()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The Python that has Tornado; `tests/run` installs it.
pub fn python() -> PathBuf {
    if let Some(python) = std::env::var_os("TEST_PYTHON") {
        return python.into();
    }
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/.deps/venv/bin/python");
    assert!(installed.exists(), "Tornado is not installed; `bash tests/run stand-in` does it");
    installed
}
