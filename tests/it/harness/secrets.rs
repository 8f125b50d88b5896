//! What must not be seen: every token and password that the harness hands out, in whatever an idlegate says.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Shorter ones are words that may stand anywhere.
const MIN_BYTES: usize = 8;

static SECRETS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// From now on this is a secret, to the end of the whole run.
pub fn secret(text: &str) -> &str {
    if text.len() >= MIN_BYTES {
        SECRETS.lock().unwrap_or_else(PoisonError::into_inner).insert(text.to_owned());
    }
    text
}

/// The secrets that stand in `text`.
pub fn secrets_in(text: &[u8]) -> Vec<String> {
    let secrets = SECRETS.lock().unwrap_or_else(PoisonError::into_inner);
    secrets.iter().filter(|secret| memchr::memmem::find(text, secret.as_bytes()).is_some()).cloned().collect()
}
