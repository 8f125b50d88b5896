//! Reloads the configuration file when it changes. An edit takes effect within a second and drops no connection.
//!
//! The file is polled three times a second, not watched with inotify. Kubernetes updates a mounted file by swapping a
//! symlink to a folder, two links away from the file. Every folder on that path would need a watch, renewed after each
//! swap. Network file systems send no events, the number of watches per node is limited, and the file must be read
//! again anyway once it is fully written. Reading a few kilobytes is cheaper than keeping the watches valid.

use crate::config::{Changes, Config, Current, Problems, Reloadable, Variables, variable_of};
use crate::registry::{Registry, Switch};
use crate::server::Server;
use crate::systemd::Manager;
use std::convert::Infallible;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::Signal;
use tracing::level_filters::LevelFilter;

/// The interval between reads of the file.
const POLL_INTERVAL: Duration = Duration::from_millis(300);

/// How long a new text must stay unchanged before it is applied. An editor may write it in pieces, or move the old file
/// away first.
const SETTLE_TIME: Duration = Duration::from_millis(150);

/// The content of the file, or why it cannot be read.
type Text = Result<String, Problems>;

/// Keeps the reloadable settings in step with the file.
pub struct Reload {
    path: PathBuf,
    /// Read at startup. The environment of a running process cannot be changed from outside.
    variables: Variables,
    in_force: Config,
    observed: Observed,
    current: Current,
    registry: Arc<Registry>,
    manager: Manager,
}

impl Reload {
    /// Follows the file at `path` for `server`. `config` is what was read there; `manager` is notified of each edit.
    #[must_use]
    pub fn new(path: &Path, config: Config, server: &Server, manager: Manager) -> Self {
        Self {
            path: path.to_owned(),
            variables: Variables::of_this_process(),
            in_force: config,
            observed: Observed::default(),
            current: server.current().clone(),
            registry: Arc::clone(server.registry()),
            manager,
        }
    }

    /// Follows the file forever. The signal `requested` makes it read the file at once. `level` sets the log level.
    pub async fn follow(mut self, mut requested: Signal, level: impl Fn(LevelFilter)) -> Infallible {
        loop {
            let pause = if self.observed.is_settling() { SETTLE_TIME } else { POLL_INTERVAL };
            let requested = tokio::select! {
                Some(()) = requested.recv() => true,
                () = tokio::time::sleep(pause) => false,
            };
            let path = self.path.clone();
            // A hanging disk must delay only this task.
            let Ok(text) = tokio::task::spawn_blocking(move || read_text(&path)).await else { continue };
            match text {
                Some(text) if requested || self.observed.has_settled(&text) => {
                    self.process(text, requested, &level).await;
                }
                None => self.report_not_a_file(requested),
                Some(_) => {}
            }
        }
    }

    /// The path is not a regular file. Logged if a reload was requested, or if there was a file before.
    fn report_not_a_file(&mut self, requested: bool) {
        if requested {
            self.manager.reloading();
            self.manager.reloaded(true);
        }
        if self.observed.has_disappeared() || requested {
            let path = self.path.display();
            tracing::warn!("{path} cannot be reloaded: not a regular file; the current configuration stays in force");
        }
    }

    /// Applies a new text, or refuses it if it is invalid.
    async fn process(&mut self, text: Text, requested: bool, level: &impl Fn(LevelFilter)) {
        // The first read finds the text that was loaded at startup.
        let first = self.observed.set_checked(text.clone()) && !requested;
        if !first {
            self.manager.reloading();
        }
        let valid = self.check_and_apply(text, first, level).await;
        if !(first && valid) {
            self.manager.reloaded(!valid);
        }
    }

    /// Applies the text. Returns whether it was valid.
    async fn check_and_apply(&mut self, text: Text, first: bool, level: &impl Fn(LevelFilter)) -> bool {
        let (name, variables) = (self.path.display().to_string(), self.variables.clone());
        // Parsing reads other files, such as secrets, whose disks may hang too.
        let parse = move || text.and_then(|text| Config::parse(&text, &name, &variables));
        let edited = match tokio::task::spawn_blocking(parse).await {
            Ok(Ok(edited)) => edited,
            Ok(Err(problems)) => {
                refuse(&problems);
                return false;
            }
            // The runtime is shutting down.
            Err(_) => return false,
        };
        let before = self.in_force.reloadable.log;
        let changes = self.in_force.reload(edited);
        let after = self.in_force.reloadable.log;
        // Log the change at the more verbose of the old and the new level.
        level(before.max(after));
        if !(first && changes == Changes::default()) {
            log(&changes);
        }
        if !changes.applied.is_empty() {
            self.apply(self.in_force.reloadable.clone());
        }
        level(after);
        true
    }

    fn apply(&self, reloadable: Reloadable) {
        self.registry.modes.switch(Switch::File, reloadable.mode, None);
        self.current.replace(reloadable);
    }
}

/// Answers each signal `requested` where there is no file: the log says so, and systemd is told that nothing changed.
pub async fn without_file(mut requested: Signal, manager: &Manager) -> Infallible {
    loop {
        if requested.recv().await.is_none() {
            return std::future::pending().await;
        }
        manager.reloading();
        manager.reloaded(true);
        tracing::warn!(
            "nothing to reload: idlegate was started without a file; save what --print-config prints as proxy.toml, \
             and start idlegate with that"
        );
    }
}

/// Shows the path only: the content of the file may be secret.
impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reload").field("path", &self.path).finish_non_exhaustive()
    }
}

fn refuse(problems: &Problems) {
    let reasons: Vec<_> = problems.iter().map(ToString::to_string).collect();
    tracing::error!("invalid configuration, the current one stays in force: {}", reasons.join(" | "));
}

fn log(changes: &Changes) {
    let Changes { applied, pending, shadowed } = changes;
    if !applied.is_empty() {
        tracing::info!("configuration reloaded: {}", applied.join(", "));
    }
    if !pending.is_empty() {
        tracing::warn!("changed in the file, needs a restart: {}", pending.join(", "));
    }
    for key in shadowed {
        let variable = variable_of(key);
        tracing::warn!("changed in the file without effect: {key}; {variable} overrides it");
    }
    if changes == &Changes::default() {
        tracing::info!("configuration read again: no change");
    }
}

/// The text of the file, following links. `None` if it is not a regular file: a pipe yields its text only once.
fn read_text(path: &Path) -> Option<Text> {
    let editable = std::fs::metadata(path).map_or(true, |metadata| metadata.is_file());
    editable.then(|| Config::read(path))
}

/// The texts seen so far.
#[derive(Default)]
struct Observed {
    /// The text that was checked last. It is not checked again, so an invalid text is logged only once.
    checked: Option<Text>,
    /// A different text that may not be fully written yet.
    settling: Option<Text>,
}

impl Observed {
    /// Returns `true` once when the file has disappeared.
    fn has_disappeared(&mut self) -> bool {
        self.settling = None;
        self.checked.take().is_some()
    }

    fn is_settling(&self) -> bool {
        self.settling.is_some()
    }

    /// Whether to check this text: it is new, and the previous read returned the same.
    fn has_settled(&mut self, text: &Text) -> bool {
        if self.checked.as_ref() == Some(text) {
            self.settling = None;
            return false;
        }
        self.settling.replace(text.clone()).as_ref() == Some(text)
    }

    /// Records that this text is checked. Returns whether it is the first.
    fn set_checked(&mut self, text: Text) -> bool {
        self.settling = None;
        self.checked.replace(text).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_checked_after_two_equal_reads() {
        let text = |text: &str| -> Text { Ok(text.to_owned()) };
        let gone = || Config::read(Path::new("/nowhere"));
        let mut observed = Observed::default();
        assert!(!observed.has_settled(&text("old")) && observed.has_settled(&text("old")));
        assert!(observed.set_checked(text("old")));
        // The file is moved away, written in pieces, and restored.
        for seen in [gone(), text("n"), text("ne"), text("old"), text("ne"), text("old")] {
            assert!(!observed.has_settled(&seen), "{seen:?}");
        }
        assert!(!observed.is_settling());
        assert!(!observed.has_settled(&gone()) && observed.is_settling() && observed.has_settled(&gone()));
        assert!(!observed.set_checked(gone()));
        assert!(!observed.has_settled(&gone()), "logged once");
    }
}
