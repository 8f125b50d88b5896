//! `Expect: 100-continue` (RFC 9110 §10.1.1): the client sends its body when the app asks for it, or never.

use super::body::{Body, Declined, Wait, held};
use super::downstream::ConnectionState;
use http::{Request, StatusCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How long the client's body waits for the app's `100 Continue`. It may go without.
const WAIT: Duration = Duration::from_secs(1);

/// A client waits to be asked for its body.
#[derive(Debug, Default)]
pub(super) struct Expectation {
    /// Decided, either way: the first caller decides.
    decided: AtomicBool,
    asked: Notify,
    /// The app has answered instead, and its answer has been passed on.
    over: CancellationToken,
}

impl Expectation {
    /// Of a request that is about to be sent to the app.
    pub(super) fn of(request: &mut Request<Body>) -> Arc<Self> {
        let expectation = Arc::new(Self::default());
        let waiting = Arc::clone(&expectation);
        hyper::ext::on_informational(request, move |answer| {
            if answer.status() == StatusCode::CONTINUE {
                waiting.asked.notify_one();
            }
        });
        expectation
    }

    pub(super) fn wait(self: Arc<Self>, client: Arc<ConnectionState>) -> Wait {
        Box::pin(async move {
            // In each case the body goes, unless the app has answered without it.
            tokio::select! {
                () = self.asked.notified() => {}
                // It sends its body without being asked to.
                () = client.more() => {}
                () = tokio::time::sleep(WAIT) => {}
            }
            if self.decided.swap(true, Ordering::AcqRel) {
                self.over.cancelled().await;
                return Err(Declined);
            }
            Ok(())
        })
    }

    /// The app has answered. Where it has not asked for the body by now, it never will: returns its answer's body, at
    /// whose end its connection is closed.
    pub(super) fn answered(&self, answer: Body) -> Result<Body, Body> {
        if self.decided.swap(true, Ordering::AcqRel) {
            return Ok(answer);
        }
        Err(held(answer, self.over.clone().drop_guard()))
    }
}
