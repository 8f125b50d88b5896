//! Notifies the service manager (`NOTIFY_SOCKET`): ready, reloading, stopping, status and watchdog.

use crate::counted::counted;
use crate::registry::Registry;
use crate::shutdown::{Phase, Shutdown};
use parking_lot::Mutex;
use sd_notify::NotifyState;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// How often the line of the status is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How long after its grace period idlegate may be taken for hung.
const BEYOND_GRACE: Duration = Duration::from_secs(5);

/// How many notifications may wait. A service manager that reads none delays nothing, and misses some.
const MAX_WAITING: usize = 16;

/// The service manager, where there is one. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Manager {
    messages: Option<SyncSender<String>>,
    registry: Arc<Registry>,
    shutdown: Shutdown,
    /// Whether the configuration, as it was last edited, is refused.
    refused: Arc<AtomicBool>,
    /// The last status sent. A status is sent only when it changes.
    status: Arc<Mutex<String>>,
}

impl Manager {
    /// The service manager that started this process, if it wants notifications.
    #[must_use]
    pub fn of_this_process(registry: Arc<Registry>, shutdown: Shutdown) -> Self {
        let messages = std::env::var_os("NOTIFY_SOCKET").map(|_| {
            let (messages, waiting) = sync_channel(MAX_WAITING);
            // Sending may block, which no thread of the proxy may.
            std::thread::spawn(move || deliver(&waiting));
            messages
        });
        Self { messages, registry, shutdown, refused: Arc::default(), status: Arc::default() }
    }

    /// idlegate listens everywhere.
    pub fn ready(&self) {
        self.notify_with_status(&[NotifyState::Ready]);
    }

    /// The configuration is read again. [`Manager::reloaded`] must follow.
    pub fn reloading(&self) {
        if self.shutdown.phase() >= Phase::Stopping {
            return;
        }
        // systemd fails a reload without a time stamp; the clock cannot fail.
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            self.notify(&[NotifyState::Reloading, now]);
        }
    }

    /// It was read, and either is in force or was refused.
    pub fn reloaded(&self, refused: bool) {
        self.refused.store(refused, Ordering::Relaxed);
        // Stopping means not ready any more.
        if self.shutdown.phase() < Phase::Stopping {
            self.ready();
        }
    }

    /// idlegate stops, and announces its grace period, which the unit need not know.
    pub fn stopping(&self) {
        let needed = self.shutdown.left() + BEYOND_GRACE;
        let needed = NotifyState::ExtendTimeoutUsec(u32::try_from(needed.as_micros()).unwrap_or(u32::MAX));
        self.notify_with_status(&[NotifyState::Stopping, needed]);
    }

    /// Keeps the status current and feeds the watchdog, for ever. A task among those of the tunnels, not a thread,
    /// which would live on while the proxy hangs. It feeds the watchdog only when the registry has made progress, which
    /// shares its thread with accepting.
    pub async fn follow(self) -> Infallible {
        let watched = sd_notify::watchdog_enabled();
        // Due after half of that time, since the registry may need some of it.
        let pause = watched.map_or(LOOK_EVERY, |most| LOOK_EVERY.min(most / 4));
        let mut steps = self.registry.steps();
        loop {
            tokio::time::sleep(pause).await;
            let now = self.registry.steps();
            if watched.is_some() && now != steps {
                self.notify(&[NotifyState::Watchdog]);
                steps = now;
            }
            if *self.status.lock() != self.line() {
                self.notify_with_status(&[]);
            }
        }
    }

    /// How it goes, in one line.
    fn line(&self) -> String {
        let metrics = self.registry.metrics();
        let store = if metrics.store.is_up() { "up" } else { "out" };
        let mut line = format!(
            "{}; {}, {}; store {store}",
            self.registry.mode().name(),
            counted(metrics.sessions.get(), "session"),
            counted(metrics.open_tunnels(), "tunnel")
        );
        if self.shutdown.is_draining() {
            line = format!("{}; {line}", self.shutdown.phase().name());
        }
        if self.refused.load(Ordering::Relaxed) {
            let _ = write!(line, "; the edited configuration is refused, see the log");
        }
        line
    }

    /// Sends a notification together with the current status.
    fn notify_with_status(&self, states: &[NotifyState<'_>]) {
        // Held until it is sent: of two concurrent status lines, the later one must be the last.
        let mut status = self.status.lock();
        let line = self.line();
        if self.notify(&[states, &[NotifyState::Status(&line)]].concat()) {
            *status = line;
        }
    }

    /// Whether it accepts notifications, if there is one.
    fn notify(&self, states: &[NotifyState<'_>]) -> bool {
        let Some(messages) = &self.messages else { return true };
        let message: Vec<_> = states.iter().map(ToString::to_string).collect();
        let taken = messages.try_send(message.join("\n")).is_ok();
        if !taken {
            tracing::debug!("the service manager accepts no notifications");
        }
        taken
    }
}

fn deliver(waiting: &Receiver<String>) {
    let mut failed = false;
    for message in waiting {
        match sd_notify::notify(&[NotifyState::Custom(&message)]) {
            Ok(()) => failed = false,
            Err(error) if !std::mem::replace(&mut failed, true) => {
                tracing::warn!(%error, "cannot notify the service manager; check NOTIFY_SOCKET");
            }
            Err(_) => {}
        }
    }
}
