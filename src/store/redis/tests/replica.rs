//! A running replica for tests, and its log.

use super::{Server, eventually};
use crate::clock::Clock;
use crate::registry::{Registry, Services};
use crate::session::{Limits, SessionId, Source};
use crate::store::Store;
use redis::Value;
use std::cell::RefCell;
use std::io;
use std::sync::{Arc, Once};
use tokio_util::sync::CancellationToken;

thread_local! {
    /// What was logged on this thread, if a test collects it.
    static LOGGED: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Collects what the thread of a test logs. All threads share one subscriber: with one each, tracing may cache that a
/// line interests no subscriber when another test logs it first.
pub(super) struct Log;

/// Appends to the log of the current thread.
struct Writer;

impl io::Write for Writer {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        LOGGED.with_borrow_mut(|logged| logged.iter_mut().for_each(|logged| logged.extend_from_slice(text)));
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    pub(super) fn start() -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| tracing_subscriber::fmt().with_ansi(false).with_writer(|| Writer).init());
        LOGGED.set(Some(Vec::new()));
        Self
    }

    /// The warnings since the last call.
    #[expect(clippy::unused_self, reason = "nothing is logged here before it is started")]
    pub(super) fn warnings(&self) -> Vec<String> {
        let text = String::from_utf8(LOGGED.replace(Some(Vec::new())).unwrap()).unwrap();
        text.lines().filter(|line| line.contains(" WARN ")).map(str::to_owned).collect()
    }
}

/// A running replica.
pub(super) struct Replica {
    pub(super) registry: Arc<Registry>,
    tasks: [tokio::task::JoinHandle<()>; 2],
}

impl Replica {
    pub(super) fn start(store: Box<dyn Store>, limits: Limits) -> Self {
        let registry = Arc::new(Registry::new(Services::new(store, Clock::system(), limits), 1_000));
        let (keeping, listening) = (Arc::clone(&registry), Arc::clone(&registry));
        let keeping = tokio::spawn(async move { keeping.exchange.run_rounds(&CancellationToken::new()).await });
        let listening = tokio::spawn(async move { match listening.listen().await {} });
        let tasks = [keeping, listening];
        Self { registry, tasks }
    }

    pub(super) fn is_ended(&self, token: &str) -> bool {
        let session = self.registry.table.known(SessionId::of_token(token.as_bytes()));
        session.is_some_and(|session| session.ended().is_some())
    }

    pub(super) fn touch(&self, token: &str) {
        if let Some(session) = self.registry.table.known(SessionId::of_token(token.as_bytes())) {
            session.touch(self.registry.clock().now(), Source::ClientFrame);
        }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        assert!(
            std::thread::panicking() || !self.tasks.iter().any(tokio::task::JoinHandle::is_finished),
            "a task of the replica stopped"
        );
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl Server {
    pub(super) async fn has_listeners(&self, count: i64) {
        let wanted = |value: &Value| matches!(value, Value::Array(parts) if parts.get(1) == Some(&Value::Int(count)));
        eventually("it to listen", async || wanted(&self.ask(&["PUBSUB", "NUMSUB", "test:ended"]).await)).await;
    }
}
