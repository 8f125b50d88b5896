//! What the service manager is told (`NOTIFY_SOCKET`): that idlegate is ready, reloads, stops, how it goes, and that it
//! lives.

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

/// How many messages may wait. A service manager that takes none holds up nobody, and misses some.
const MAX_WAITING: usize = 16;

/// The service manager, where there is one. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Manager {
    messages: Option<SyncSender<String>>,
    registry: Arc<Registry>,
    shutdown: Shutdown,
    /// Whether the configuration, as it was last edited, is refused.
    refused: Arc<AtomicBool>,
    /// The status that it was told last, by whomever: what differs from it is told.
    status: Arc<Mutex<String>>,
}

impl Manager {
    /// The one that started this process, if it wants to be told.
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
        self.tell_how_it_goes(&[NotifyState::Ready]);
    }

    /// The configuration is read again. [`Manager::reloaded`] has to follow.
    pub fn reloading(&self) {
        if self.shutdown.phase() >= Phase::Stopping {
            return;
        }
        // systemd fails a reload whose time it cannot tell; the clock cannot fail.
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            self.tell(&[NotifyState::Reloading, now]);
        }
    }

    /// It was read, and either is in force or was refused.
    pub fn reloaded(&self, refused: bool) {
        self.refused.store(refused, Ordering::Relaxed);
        // Whoever stops is not ready any more.
        if self.shutdown.phase() < Phase::Stopping {
            self.ready();
        }
    }

    /// idlegate was told to stop, and has its grace period for that, which the unit need not know.
    pub fn stopping(&self) {
        let needed = self.shutdown.left() + BEYOND_GRACE;
        let needed = NotifyState::ExtendTimeoutUsec(u32::try_from(needed.as_micros()).unwrap_or(u32::MAX));
        self.tell_how_it_goes(&[NotifyState::Stopping, needed]);
    }

    /// Keeps the status as it is, and says that idlegate lives, for ever. Not from a thread of its own, which would live on
    /// while the proxy does not: this is a task among those of the tunnels, and speaks only when the keeper has got on,
    /// which shares its thread with accepting.
    pub async fn follow(self) -> Infallible {
        let watched = sd_notify::watchdog_enabled();
        // Asked for at half of that time, and the keeper may need some of it.
        let pause = watched.map_or(LOOK_EVERY, |most| LOOK_EVERY.min(most / 4));
        let mut steps = self.registry.steps();
        loop {
            tokio::time::sleep(pause).await;
            let now = self.registry.steps();
            if watched.is_some() && now != steps {
                self.tell(&[NotifyState::Watchdog]);
                steps = now;
            }
            if *self.status.lock() != self.line() {
                self.tell_how_it_goes(&[]);
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

    /// Tells it something, and how it goes at the same time.
    fn tell_how_it_goes(&self, states: &[NotifyState<'_>]) {
        // Until it is told: of two lines, the later is to be the one that stays.
        let mut status = self.status.lock();
        let line = self.line();
        if self.tell(&[states, &[NotifyState::Status(&line)]].concat()) {
            *status = line;
        }
    }

    /// Whether it takes what it is told, where there is one.
    fn tell(&self, states: &[NotifyState<'_>]) -> bool {
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
