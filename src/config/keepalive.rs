//! `[keepalive]`: a message sent to the app while the client answers its pings.

use super::error::ValueError;
use super::section::Section;
use super::value::duration;
use crate::websocket::Keepalive;
use std::time::Duration;

const DEFAULT_EVERY: Duration = Duration::from_secs(60);
/// The maximum length of the message, in bytes.
const MAX_MESSAGE: usize = 1024;

/// Reads `[keepalive]`. Returns `None` if no message is configured.
pub(super) fn keepalive(table: &mut Section<'_, '_>) -> Option<Keepalive> {
    let message = table.text("upstream_message", message).flatten();
    let every = table.duration("every", duration).unwrap_or(DEFAULT_EVERY);
    message.map(|upstream_message| Keepalive { upstream_message, every })
}

/// An empty text means no message, so that an environment variable can remove the message of the file.
fn message(text: &str) -> Result<Option<String>, ValueError> {
    if text.len() > MAX_MESSAGE {
        return Err(ValueError::new(format!("{} bytes is too long", text.len()), "write up to 1024 bytes"));
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}
