//! What the tests are made of: the binary, apps behind it, clients in front of it.

mod app;
mod client;
mod fake;
mod idlegate;
mod message;
mod wire;

pub use app::App;
pub use client::{Answer, Request, Socket, log_in, text_of};
pub use fake::Fake;
pub use idlegate::Idlegate;
pub use message::{Message, Recorder};
pub use wire::Wire;
pub use wire::{TEXT, masked, unmasked};

use std::time::Duration;

/// How long anything may take that should take no time.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Waits for what should come soon.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} in vain for {what}"),
    }
}

/// Asks again and again until the answer is yes.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(what, asking).await;
}
