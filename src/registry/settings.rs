//! Settings of the exchange with the store.

use std::time::Duration;

/// `[store]`: how a replica exchanges data with the store, for every kind of store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExchangeSettings {
    /// `flush_interval`: how often the replica reports to the store. 100 ms to 10 s.
    pub flush_interval: Duration,
    /// `lookup_timeout`: how long a request with an unknown token waits for the store.
    pub lookup_timeout: Duration,
    /// `unknown_tokens`: what happens to that request if the store does not answer.
    pub unknown_tokens: UnknownTokens,
}

impl Default for ExchangeSettings {
    fn default() -> Self {
        Self {
            flush_interval: Duration::from_secs(1),
            lookup_timeout: Duration::from_millis(250),
            unknown_tokens: UnknownTokens::Admit,
        }
    }
}

/// What happens to a request whose token this replica does not know, while the store does not answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnknownTokens {
    /// The app decides, as for a new token. A dead token passes until the store answers.
    Admit,
    /// The request gets a 503 until the store answers.
    Refuse,
}
