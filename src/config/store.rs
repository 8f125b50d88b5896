//! `[store]`: where sessions are kept.

use super::problem::{Fault, echo};
use super::section::Section;
use super::value::duration;
use super::{Store, UnknownTokens};
use crate::session::SessionIds;
use crate::store::{RedisSettings, Secret};
use std::path::PathBuf;
use std::time::Duration;

const DEFAULT_PREFIX: &str = "idlegate";
const DEFAULT_LOOKUP_TIMEOUT: Duration = Duration::from_millis(250);
const DEFAULT_REPLICA_GRACE: Duration = Duration::from_secs(30);

/// Too short a secret can be guessed like the tokens it is to protect.
const SECRET_BYTES_AT_LEAST: usize = 16;

/// Reads `[store]`: the store, how tokens become its keys, and what becomes of unknown ones while it is out.
pub(super) fn store(table: &mut Section<'_, '_>) -> (Store, SessionIds, UnknownTokens) {
    let place = table.text("url", url).unwrap_or(Place::Memory);
    let prefix = table.text("prefix", prefix).unwrap_or_else(|| DEFAULT_PREFIX.to_owned());
    let lookup_timeout = table.text("lookup_timeout", duration).unwrap_or(DEFAULT_LOOKUP_TIMEOUT);
    let password_file = table.text("password_file", file);
    let ca_file = table.text("ca_file", file);
    let replica_grace = table.text("replica_grace", replica_grace).unwrap_or(DEFAULT_REPLICA_GRACE);
    let store = match place {
        Place::Memory => Store::Memory,
        Place::File(path) => Store::File(path),
        Place::Redis(url) => {
            Store::Redis(RedisSettings { url, prefix, lookup_timeout, password_file, ca_file, replica_grace })
        }
    };
    let ids = table.text("secret", secret).unwrap_or_default();
    let unknown_tokens = table.text("unknown_tokens", unknown_tokens).unwrap_or(UnknownTokens::Admit);
    (store, ids, unknown_tokens)
}

fn file(text: &str) -> Result<PathBuf, Fault> {
    if text.starts_with('/') && !text.contains('\0') {
        return Ok(PathBuf::from(text));
    }
    Err(Fault::new(format!("{} is no absolute path", echo(text)), "write it like \"/etc/idlegate/redis\""))
}

// Not echoed: it is one.
fn secret(text: &str) -> Result<SessionIds, Fault> {
    if text.len() >= SECRET_BYTES_AT_LEAST {
        return Ok(SessionIds::keyed(text.as_bytes()));
    }
    Err(Fault::new("it is too short to be a secret", "write 16 bytes or more, the output of `openssl rand -hex 32`"))
}

fn unknown_tokens(text: &str) -> Result<UnknownTokens, Fault> {
    match text {
        "admit" => Ok(UnknownTokens::Admit),
        "refuse" => Ok(UnknownTokens::Refuse),
        _ => {
            let cure = "write \"admit\" (the app has the say) or \"refuse\" (503 until the store answers)";
            Err(Fault::new(format!("{} is not a choice", echo(text)), cure))
        }
    }
}

enum Place {
    Memory,
    File(PathBuf),
    Redis(Secret),
}

// No value is repeated: URLs of stores have passwords in them.
fn url(text: &str) -> Result<Place, Fault> {
    const CURE: &str = "write \"memory\", \"file:/var/lib/idlegate/sessions\" or \"redis://127.0.0.1:6379\"";
    if text == "memory" {
        return Ok(Place::Memory);
    }
    if let Some(path) = text.strip_prefix("file:") {
        if path.starts_with('/') && !path.ends_with('/') && !path.contains('\0') {
            return Ok(Place::File(PathBuf::from(path)));
        }
        return Err(Fault::new("it does not name a file by its absolute path", CURE));
    }
    let known = ["redis://", "rediss://", "redis+unix://", "unix://"].iter().any(|scheme| text.starts_with(scheme));
    if known && redis::Client::open(text).is_ok() {
        return Ok(Place::Redis(Secret::new(text)));
    }
    Err(Fault::new("this version has no such store", CURE))
}

fn prefix(text: &str) -> Result<String, Fault> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"{}*?[]".contains(&byte)) {
        return Ok(text.to_owned());
    }
    let cure = "write visible ASCII without {}*?[], like \"idlegate\"";
    Err(Fault::new(format!("{} is no beginning of a key", echo(text)), cure))
}

/// A replica reports once a second, and a report may take as long: less than a few of them is no silence.
fn replica_grace(text: &str) -> Result<Duration, Fault> {
    let grace = duration(text)?;
    if grace < Duration::from_secs(5) {
        return Err(Fault::new(format!("{} is too short", echo(text)), "write 5s or more"));
    }
    Ok(grace)
}
