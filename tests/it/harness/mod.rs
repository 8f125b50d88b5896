//! What the tests are made of: the binary, apps behind it, clients in front of it.

mod app;
mod client;
mod ends;
mod failover;
mod fake;
mod gunicorn;
mod host_clock;
mod idlegate;
mod message;
mod operators;
mod redis;
mod scrape;
mod secrets;
mod terminal;
mod traffic;
mod way;
mod wire;

pub use app::{App, python};
pub use client::{Answer, Request, Socket, log_in};
pub use ends::{CUT_FRAMES, Ends, switching};
pub use failover::{Cluster, Sentinel, Sentinels};
pub use fake::{Deaf, Fake};
pub use gunicorn::Gunicorn;
pub use host_clock::HostClock;
pub use idlegate::{Idlegate, SHIPPED};
pub use message::{Message, Recorder};
pub use operators::{ask, id, switch};
pub use redis::{Redis, Tunnel, most_of, replica};
pub use scrape::{Query, Scrape};
pub use secrets::{secret, secrets_in};
pub use terminal::Terminal;
pub use traffic::Traffic;
pub use way::Way;
pub use wire::{PING, PONG, TEXT, Wire, handshake, masked, unmasked};

use std::time::Duration;

/// How long anything may take that should take no time.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// What a busy machine may add to a time that is measured from outside.
pub const BUSY: Duration = Duration::from_millis(1500);

/// Waits for what should come soon.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waiting = tokio::time::timeout(PATIENCE, future).await;
    waiting.unwrap_or_else(|_| panic!("waited {PATIENCE:?} for {what}"))
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

/// Numbers that look random and are the same every time.
pub struct Numbers(pub u64);

impl Numbers {
    /// The next one, below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end as u64).unwrap()
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| u8::try_from(self.below(256)).unwrap()).collect()
    }
}

/// The pages for users and operators: the README, and those it links to.
pub const MANUAL: &str = concat!(
    include_str!("../../../README.md"),
    include_str!("../../../docs/getting-started.md"),
    include_str!("../../../docs/activity.md"),
    include_str!("../../../docs/configuration.md"),
    include_str!("../../../docs/operating.md"),
    include_str!("../../../docs/troubleshooting.md"),
    include_str!("../../../docs/security.md"),
);
