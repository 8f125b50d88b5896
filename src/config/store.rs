//! `[store]`: where sessions are kept.

use super::error::{ValueError, echo};
use super::section::Section;
use super::value::{absolute, duration, integer_in};
use crate::registry::{ExchangeSettings, UnknownTokens};
use crate::secret::Secret;
use crate::session::SessionIds;
use crate::store::{RedisSettings, StoreSettings};
use rustix::fs::{Access, access};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

const DEFAULT_PREFIX: &str = "idlegate";
const DEFAULT_REPLICA_GRACE: Duration = Duration::from_secs(30);

/// Reads `[store]`: the store, how tokens become its keys, and how data is exchanged with it.
pub(super) fn store(table: &mut Section<'_, '_>) -> (StoreSettings, SessionIds, ExchangeSettings) {
    let place = table.text("url", url).unwrap_or(StoreLocation::Memory);
    let prefix = table.text("prefix", prefix).unwrap_or_else(|| DEFAULT_PREFIX.to_owned());
    let password_file = table.text("password_file", file);
    let sentinel_password_file = table.text("sentinel_password_file", file);
    let ca_file = table.text("ca_file", file);
    let exchange = exchange(table);
    let replica_grace = replica_grace_of(table, exchange.flush_interval);
    let decides_alone = decides_alone(table);
    let store = match place {
        StoreLocation::Memory => StoreSettings::Memory,
        StoreLocation::File(path) => StoreSettings::File(path),
        StoreLocation::Redis(url) => StoreSettings::Redis(RedisSettings {
            url,
            prefix,
            password_file,
            sentinel_password_file,
            ca_file,
            replica_grace,
            decides_alone,
        }),
    };
    (store, ids(table), exchange)
}

/// How tokens become session ids: with the secret in `secret`, or the one in the file at `secret_file`.
fn ids(table: &mut Section<'_, '_>) -> SessionIds {
    let written = table.text("secret", |text| keyed(&Secret::new(text)));
    let in_file = table.text("secret_file", |path| secret_in(&file(path)?));
    if table.has("secret") && table.has("secret_file") {
        // Guessing is unsafe: the other secret may be the one that the other replicas use.
        table.fault("secret_file", ValueError::new("store.secret is set as well", "remove one of the two"));
    }
    written.or(in_file).unwrap_or_default()
}

fn exchange(table: &mut Section<'_, '_>) -> ExchangeSettings {
    let usual = ExchangeSettings::default();
    ExchangeSettings {
        flush_interval: table.duration("flush_interval", flush_interval).unwrap_or(usual.flush_interval),
        lookup_timeout: table.duration("lookup_timeout", duration).unwrap_or(usual.lookup_timeout),
        unknown_tokens: table.text("unknown_tokens", unknown_tokens).unwrap_or(usual.unknown_tokens),
    }
}

/// Bounded, because a cut may come late by one flush interval.
fn flush_interval(text: &str) -> Result<Duration, ValueError> {
    let interval = duration(text)?;
    if (Duration::from_millis(100)..=Duration::from_secs(10)).contains(&interval) {
        return Ok(interval);
    }
    Err(ValueError::new(format!("{} is out of range", echo(text)), "write 100ms to 10s; \"1s\" cuts within 2 s"))
}

/// Whether sessions still expire during an outage of the store. This is only safe with a single replica.
fn decides_alone(table: &mut Section<'_, '_>) -> bool {
    let replicas = table.scalar("replicas", |value| integer_in(value, 1..=10_000_u32));
    let local = table.text("on_outage", |text| match text {
        "hold" => Ok(false),
        "local" => Ok(true),
        _ => {
            let fix = "write \"hold\" (no session is cut) or \"local\" (the only replica decides alone)";
            Err(ValueError::new(format!("{} is not a choice", echo(text)), fix))
        }
    });
    if local == Some(true) && replicas != Some(1) {
        let what = "\"local\" lets a replica end sessions that others may see active";
        table.fault(
            "on_outage",
            ValueError::new(what, "add replicas = 1 where there is never a second one, or write \"hold\""),
        );
    }
    local == Some(true)
}

fn file(text: &str) -> Result<PathBuf, ValueError> {
    absolute(text, "/etc/idlegate/redis")
}

// Errors must not repeat the secret.
fn keyed(secret: &Secret) -> Result<SessionIds, ValueError> {
    if secret.is_short() {
        let fix = "write 16 bytes or more, such as the output of `openssl rand -hex 32`";
        return Err(ValueError::new("the secret is too short", fix));
    }
    Ok(SessionIds::keyed(secret.reveal().as_bytes()))
}

fn secret_in(path: &Path) -> Result<SessionIds, ValueError> {
    let secret = Secret::in_file(path).map_err(|error| {
        let what = format!("{} cannot be read: {error}", echo(&path.display().to_string()));
        ValueError::new(what, "write the secret into it, and give the user that idlegate runs as read permission")
    })?;
    keyed(&secret)
}

fn unknown_tokens(text: &str) -> Result<UnknownTokens, ValueError> {
    match text {
        "admit" => Ok(UnknownTokens::Admit),
        "refuse" => Ok(UnknownTokens::Refuse),
        _ => {
            let fix = "write \"admit\" (the app decides) or \"refuse\" (503 until the store answers)";
            Err(ValueError::new(format!("{} is not a choice", echo(text)), fix))
        }
    }
}

enum StoreLocation {
    Memory,
    File(PathBuf),
    Redis(Secret),
}

// Errors must not repeat the URL: it may contain a password.
fn url(text: &str) -> Result<StoreLocation, ValueError> {
    const FIX: &str = "write \"memory\", \"file:/var/lib/idlegate/sessions\" or \"redis://127.0.0.1:6379\"";
    if text == "memory" {
        return Ok(StoreLocation::Memory);
    }
    if let Some(path) = text.strip_prefix("file:") {
        if path.starts_with('/') && !path.ends_with('/') && !path.contains('\0') {
            return writable(Path::new(path)).map(StoreLocation::File);
        }
        return Err(ValueError::new("it does not name a file by its absolute path", FIX));
    }
    if ["redis", "unix:"].iter().any(|scheme| text.starts_with(scheme)) {
        return match RedisSettings::check_url(text) {
            Ok(()) => Ok(StoreLocation::Redis(Secret::new(text))),
            Err(error) => Err(ValueError::new(error.to_string(), error.fix())),
        };
    }
    Err(ValueError::new("not a supported store", FIX))
}

/// Checks that the file can be created, or written if it exists. Its content is checked when it is opened.
fn writable(path: &Path) -> Result<PathBuf, ValueError> {
    let folder = path.parent().unwrap_or(path);
    let shown = |path: &Path| echo(&path.display().to_string());
    if path.is_dir() {
        return Err(ValueError::new(format!("{} is a folder", shown(path)), "name a file in it"));
    }
    match folder.metadata() {
        Ok(found) if found.is_dir() => {}
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let fix = "give the user that idlegate runs as access to the folders above it";
            return Err(ValueError::new(format!("{} cannot be reached: {error}", shown(folder)), fix));
        }
        _ => {
            let fix = "create it, or name a file in another folder";
            return Err(ValueError::new(format!("there is no folder {}", shown(folder)), fix));
        }
    }
    let written = if path.exists() { path } else { folder };
    access(written, Access::WRITE_OK).map(|()| path.to_owned()).map_err(|error| {
        ValueError::new(
            format!("{} cannot be written: {error}", shown(written)),
            "give the user that idlegate runs as write permission",
        )
    })
}

fn prefix(text: &str) -> Result<String, ValueError> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"{}*?[]".contains(&byte)) {
        return Ok(text.to_owned());
    }
    let fix = "write visible ASCII without {}*?[], like \"idlegate\"";
    Err(ValueError::new(format!("{} is not a valid prefix of keys", echo(text)), fix))
}

/// `replica_grace`: how long a replica may be silent before it is struck off.
fn replica_grace_of(table: &mut Section<'_, '_>, flush_interval: Duration) -> Duration {
    // A replica reports once per interval, and a report may take a second. A few missing reports are still normal.
    let least = Duration::from_secs(5).max(flush_interval * 3);
    let grace = table.duration("replica_grace", duration).unwrap_or(DEFAULT_REPLICA_GRACE.max(least));
    if grace < least {
        let fix = format!("write {} or more", humantime::format_duration(least));
        table.fault("replica_grace", ValueError::new("a replica that reports on time would be struck off", fix));
    }
    grace
}
