//! A replica at work in a test, and what is logged there.

use super::{Server, eventually};
use crate::clock::Clock;
use crate::keeper::Keeper;
use crate::session::{Limits, SessionId, Source};
use crate::store::Store;
use parking_lot::Mutex;
use redis::Value;
use std::io;
use std::sync::Arc;
use tracing::subscriber::DefaultGuard;

/// What is logged on the thread of a test.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    pub(super) fn start() -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let written = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        (log, tracing::subscriber::set_default(written))
    }

    /// The warnings since this was last asked.
    pub(super) fn warnings(&self) -> Vec<String> {
        let text = String::from_utf8(std::mem::take(&mut *self.0.lock())).unwrap();
        text.lines().filter(|line| line.contains(" WARN ")).map(str::to_owned).collect()
    }
}

/// A replica at work.
pub(super) struct Replica {
    pub(super) keeper: Arc<Keeper>,
    tasks: [tokio::task::JoinHandle<()>; 2],
}

impl Replica {
    pub(super) fn start(store: Box<dyn Store>, limits: Limits) -> Self {
        let keeper = Arc::new(Keeper::new(store, Clock::system(), limits, 1_000));
        let (keeping, listening) = (Arc::clone(&keeper), Arc::clone(&keeper));
        let tasks =
            [tokio::spawn(async move { keeping.keep().await }), tokio::spawn(async move { listening.listen().await })];
        Self { keeper, tasks }
    }

    pub(super) fn is_ended(&self, token: &str) -> bool {
        let session = self.keeper.known(SessionId::of_token(token.as_bytes()));
        session.is_some_and(|session| session.ended().is_some())
    }

    pub(super) fn touch(&self, token: &str) {
        if let Some(session) = self.keeper.known(SessionId::of_token(token.as_bytes())) {
            session.touch(self.keeper.clock().now(), Source::ClientFrame);
        }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        assert!(
            std::thread::panicking() || !self.tasks.iter().any(tokio::task::JoinHandle::is_finished),
            "it fell over"
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
