//! Notifications to the service manager (`NOTIFY_SOCKET`): ready, reloading, stopping, status and watchdog.

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

/// How often the status line is checked for changes.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// How long after its grace period the service manager may treat idlegate as hung.
const BEYOND_GRACE: Duration = Duration::from_secs(5);

/// The capacity of the message queue. If the service manager does not read, further messages are dropped.
const MAX_QUEUED: usize = 16;

/// The service manager, if there is one. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Manager {
    messages: Option<SyncSender<String>>,
    registry: Arc<Registry>,
    shutdown: Shutdown,
    /// Whether the last reload was refused.
    refused: Arc<AtomicBool>,
    /// The last status line sent. A new one is sent when it differs.
    status: Arc<Mutex<String>>,
}

impl Manager {
    /// The service manager of this process, if it expects notifications.
    #[must_use]
    pub fn of_this_process(registry: Arc<Registry>, shutdown: Shutdown) -> Self {
        let messages = std::env::var_os("NOTIFY_SOCKET").map(|_| {
            let (messages, waiting) = sync_channel(MAX_QUEUED);
            // Sending may block, so it has its own thread.
            std::thread::spawn(move || deliver(&waiting));
            messages
        });
        Self { messages, registry, shutdown, refused: Arc::default(), status: Arc::default() }
    }

    /// All listeners are open.
    pub fn ready(&self) {
        self.send_with_status(&[NotifyState::Ready]);
    }

    /// A reload begins. [`Manager::reloaded`] must follow.
    pub fn reloading(&self) {
        if self.shutdown.phase() >= Phase::Stopping {
            return;
        }
        // systemd requires a timestamp for a reload. Reading this clock cannot fail.
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            self.send(&[NotifyState::Reloading, now]);
        }
    }

    /// The reload is done. The new configuration is in force, or it was refused.
    pub fn reloaded(&self, refused: bool) {
        self.refused.store(refused, Ordering::Relaxed);
        // A stopping process must not report ready again.
        if self.shutdown.phase() < Phase::Stopping {
            self.ready();
        }
    }

    /// idlegate is stopping. It asks for its grace period, so the unit need not configure it.
    pub fn stopping(&self) {
        let needed = self.shutdown.left() + BEYOND_GRACE;
        let needed = NotifyState::ExtendTimeoutUsec(u32::try_from(needed.as_micros()).unwrap_or(u32::MAX));
        self.send_with_status(&[NotifyState::Stopping, needed]);
    }

    /// Keeps the status line up to date and feeds the watchdog, forever. It is a task on the runtime of the tunnels,
    /// because a separate thread could go on while the proxy hangs. It feeds the watchdog only if the registry's task
    /// has made progress. That task shares its thread with accepting.
    pub async fn follow(self) -> Infallible {
        let watched = sd_notify::watchdog_enabled();
        // systemd recommends half of the timeout. A quarter leaves time for the registry's task.
        let pause = watched.map_or(CHECK_INTERVAL, |timeout| CHECK_INTERVAL.min(timeout / 4));
        let mut steps = self.registry.exchange.steps();
        loop {
            tokio::time::sleep(pause).await;
            let now = self.registry.exchange.steps();
            if watched.is_some() && now != steps {
                self.send(&[NotifyState::Watchdog]);
                steps = now;
            }
            if *self.status.lock() != self.status_line() {
                self.send_with_status(&[]);
            }
        }
    }

    /// The status line.
    fn status_line(&self) -> String {
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
            let _ = write!(line, "; the edited configuration was refused, see the log");
        }
        line
    }

    /// Sends notifications together with the status line.
    fn send_with_status(&self, states: &[NotifyState<'_>]) {
        // Locked until sent, so that an older line cannot overwrite a newer one.
        let mut status = self.status.lock();
        let line = self.status_line();
        if self.send(&[states, &[NotifyState::Status(&line)]].concat()) {
            *status = line;
        }
    }

    /// Queues notifications. Returns false if the queue is full.
    fn send(&self, states: &[NotifyState<'_>]) -> bool {
        let Some(messages) = &self.messages else { return true };
        let message: Vec<_> = states.iter().map(ToString::to_string).collect();
        let taken = messages.try_send(message.join("\n")).is_ok();
        if !taken {
            tracing::debug!("the service manager does not read its notifications; some were dropped");
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
