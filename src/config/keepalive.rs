//! `[keepalive]`: a message to the app while the client answers its pings.

use super::error::ValueError;
use super::section::Section;
use super::value::duration;
use crate::websocket::Keepalive;
use std::time::Duration;

const DEFAULT_EVERY: Duration = Duration::from_secs(60);
/// The message is meant to be short.
const MAX_MESSAGE: usize = 1024;

/// Reads `[keepalive]`; `None` where there is no message.
pub(super) fn keepalive(table: &mut Section<'_, '_>) -> Option<Keepalive> {
    let message = table.text("upstream_message", message).flatten();
    let every = table.duration("every", duration).unwrap_or(DEFAULT_EVERY);
    message.map(|upstream_message| Keepalive { upstream_message, every })
}

/// An empty text means none: it is how an environment variable takes away the file's.
fn message(text: &str) -> Result<Option<String>, ValueError> {
    if text.len() > MAX_MESSAGE {
        return Err(ValueError::new(format!("{} bytes are too long", text.len()), "write 1024 bytes at most"));
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}
