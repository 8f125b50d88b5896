//! Reads `proxy.toml` and the environment into a validated [`Config`].

use super::document::Document;
use super::error::{Origin, Problem, Problems, ValueError, echo};
use super::fingerprint::Fingerprint;
use super::section::{Section, read_document};
use super::value::{boolean, duration, integer_in, is_token, path_pattern, seconds};
use super::{Config, Reloadable, Variables, admin, cut, health, ignore, keepalive, required, store, token, upstream};
use crate::address::Upstream;
use crate::audit::Destination;
use crate::log::LogFormat;
use crate::route::PathSet;
use crate::session::{ActivitySources, Limits, Mode};
use ipnet::IpNet;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;
use tracing::level_filters::LevelFilter;

const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10086);
const DEFAULT_IDLE: Limits = Limits { timeout: 3600, lifetime: None, retention: 48 * 3600 };

impl Config {
    /// Reads the file at `path`. `variables` override its values.
    ///
    /// # Errors
    /// All problems, each with its position and fix.
    pub fn load(path: &Path, variables: &Variables) -> Result<Self, Problems> {
        Self::parse(&Self::read(path)?, &path.display().to_string(), variables)
    }

    /// The text of the file at `path`.
    pub(crate) fn read(path: &Path) -> Result<String, Problems> {
        read_text(path).map_err(|error| {
            let fix = match error.kind() {
                ErrorKind::NotFound => "create it, or name another file with --config or IDLEGATE_CONFIG",
                ErrorKind::InvalidData => "save it as UTF-8",
                ErrorKind::FileTooLarge => "check that it is the right file: a configuration may have up to 1 MiB",
                ErrorKind::PermissionDenied => "give the user that idlegate runs as read permission",
                _ => "name a readable file with --config or IDLEGATE_CONFIG",
            };
            let fault = ValueError::new(format!("cannot be read: {error}"), fix);
            Problem { origin: Origin::File { file: path.display().to_string() }, key: None, fault }.into()
        })
    }

    /// Reads `text`. Problems refer to it as `name`. `variables` override its values.
    ///
    /// # Errors
    /// All problems, each with its position and fix.
    pub fn parse(text: &str, name: &str, variables: &Variables) -> Result<Self, Problems> {
        let mut document = Document::new(name, text, variables);
        let mut config = read_document(&mut document, config);
        config.written = std::mem::take(&mut document.written);
        config.shadowed = std::mem::take(&mut document.shadowed);
        document.finish().map_or(Ok(config), Err)
    }
}

/// The maximum size of a configuration, in bytes. The path may point at any file, and it is read three times a second.
const MAX_BYTES: u64 = 1 << 20;

fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let read = File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text);
    if text.len() as u64 > MAX_BYTES {
        return Err(ErrorKind::FileTooLarge.into());
    }
    read.map(|_| text)
}

/// Reads the whole configuration. An invalid or missing value is recorded in the document and replaced by a
/// placeholder, so that one run reports all problems.
pub(super) fn config(top: &mut Section<'_, '_>) -> Config {
    let listen = top.text("listen", upstream::listen).unwrap_or(DEFAULT_LISTEN);
    let upstream = app(top, listen);
    let health = top.table("health", |table| health::health(table, listen, &upstream));
    let admin = top.table("admin", |table| admin::admin(table, listen, &upstream, health.as_ref()));
    let (idle, mode) = top.table("idle", idle);
    let (activity, presets) = top.table("activity", |table| (activity(table), ignore::presets(table)));
    let ignored = ignore::rules(top);
    let (store, ids, exchange) = top.table("store", store::store);
    let rules = token::rules(top);
    let cut = top.table("cut", cut::cut);
    required::check(top, &rules, &cut);
    Config {
        listen,
        upstream,
        upgrades: upgrades(top),
        drop_underscores: top.text("underscores_in_headers", drops_underscores).unwrap_or(false),
        max_sessions: top
            .scalar("max_sessions", |value| integer_in(value, 1..=10_000_000_u32))
            .map_or(100_000, |count| usize::try_from(count).unwrap_or(usize::MAX)),
        log_format: top.text("log_format", log_format).unwrap_or_default(),
        audit: top.text("audit", audit).unwrap_or(Destination::Stdout),
        health,
        admin,
        idle,
        store,
        ids,
        exchange,
        activity,
        ignore: ignore::all(top, ignored, presets),
        keepalive: top.table("keepalive", keepalive::keepalive),
        tokens: rules.into_iter().map(|read| read.rule).collect(),
        reloadable: Reloadable {
            trusted_proxies: top.list("trusted_proxies", network).unwrap_or_default(),
            deny: top.list("deny", path_pattern).map(PathSet::from_iter).unwrap_or_default(),
            cors: top.list("cors", cut::origin).unwrap_or_default(),
            connect_timeout: top.text("connect_timeout", duration).unwrap_or(Duration::from_secs(5)),
            response_timeout: top.text("response_timeout", duration).unwrap_or(Duration::from_secs(60)),
            write_timeout: top.text("write_timeout", duration).unwrap_or(Duration::from_secs(60)),
            grace_period: top.text("grace_period", duration).unwrap_or(Duration::from_secs(10)),
            log: top.text("log", level).unwrap_or(LevelFilter::INFO),
            mode,
            cut,
        },
        written: Fingerprint::default(),
        shadowed: Fingerprint::default(),
    }
}

fn app(top: &mut Section<'_, '_>, listen: SocketAddr) -> Upstream {
    if !top.has("upstream") {
        top.absent("upstream", "nothing says where the app listens", "add upstream = \"http://127.0.0.1:10087\"");
    }
    let app = top.text("upstream", upstream::upstream);
    if app.as_ref().is_some_and(|app| upstream::is_loop(listen, app)) {
        let what = "idlegate itself listens on this address";
        top.fault("upstream", ValueError::new(what, "move the app to another port and name that one here"));
    }
    app.unwrap_or_else(|| Upstream::Tcp(String::new()))
}

fn network(text: &str) -> Result<IpNet, ValueError> {
    text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| {
        let what = format!("{} is not an IP address or network", echo(text));
        ValueError::new(what, "write it like \"10.0.0.7\" or \"10.0.0.0/8\"")
    })
}

fn upgrades(top: &mut Section<'_, '_>) -> Vec<String> {
    let protocols = top.list("upgrades", |text| {
        let name = text.to_ascii_lowercase();
        if !is_token(&name) {
            let what = format!("{} is not the name of a protocol", echo(text));
            return Err(ValueError::new(what, "write the name as in the Upgrade header, without a version"));
        }
        if name.starts_with("h2") || name.starts_with("http") || name == "tls" {
            let what = format!("{} is never forwarded: requests inside it would bypass all rules", echo(text));
            return Err(ValueError::new(what, "remove it"));
        }
        Ok(name)
    });
    let mut protocols = protocols.unwrap_or_default();
    protocols.retain(|name| name != "websocket");
    protocols.sort();
    protocols.dedup();
    protocols
}

fn drops_underscores(text: &str) -> Result<bool, ValueError> {
    match text {
        "pass" => Ok(false),
        "drop" => Ok(true),
        _ => Err(ValueError::new(format!("{} is not a choice", echo(text)), "write \"pass\" or \"drop\"")),
    }
}

fn log_format(text: &str) -> Result<LogFormat, ValueError> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(ValueError::new(format!("{} is not a log format", echo(text)), "write \"text\" or \"json\"")),
    }
}

fn level(text: &str) -> Result<LevelFilter, ValueError> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "off" => LevelFilter::OFF,
        "error" => LevelFilter::ERROR,
        "warn" => LevelFilter::WARN,
        "info" => LevelFilter::INFO,
        "debug" => LevelFilter::DEBUG,
        "trace" => LevelFilter::TRACE,
        _ => {
            let what = format!("{} is not a level", echo(text));
            return Err(ValueError::new(what, "write one of off, error, warn, info, debug, trace"));
        }
    })
}

fn audit(text: &str) -> Result<Destination, ValueError> {
    match text {
        "none" => Ok(Destination::None),
        "stdout" => Ok(Destination::Stdout),
        "stderr" => Ok(Destination::Stderr),
        _ if text.starts_with('/') && !text.ends_with('/') && !text.contains('\0') => {
            Ok(Destination::File(text.into()))
        }
        _ => {
            let what = format!("{} is not an audit destination", echo(text));
            let fix =
                "write \"stdout\", \"stderr\", \"none\", or an absolute path like \"/var/log/idlegate/audit.jsonl\"";
            Err(ValueError::new(what, fix))
        }
    }
}

fn idle(table: &mut Section<'_, '_>) -> (Limits, Mode) {
    let lifetime = |text: &str| if text == "none" { Ok(None) } else { seconds(text).map(Some) };
    let mode = table.text("mode", |text| {
        Mode::from_name(text).ok_or_else(|| {
            let fix = "write \"enforce\" (cut), \"observe\" (only record) or \"off\" (pass everything through)";
            ValueError::new(format!("{} is not a mode", echo(text)), fix)
        })
    });
    let limits = Limits {
        timeout: table.duration("timeout", seconds).unwrap_or(DEFAULT_IDLE.timeout),
        lifetime: table.duration("lifetime", lifetime).unwrap_or(DEFAULT_IDLE.lifetime),
        retention: table.duration("retention", seconds).unwrap_or(DEFAULT_IDLE.retention),
    };
    (limits, mode.unwrap_or(Mode::Enforce))
}

fn activity(table: &mut Section<'_, '_>) -> ActivitySources {
    let profile = table.text("profile", |text| match text {
        "tab" => Ok(ActivitySources::TAB),
        "person" => Ok(ActivitySources::PERSON),
        _ => {
            let what = format!("{} is not a profile", echo(text));
            let fix = "write \"tab\" (an open tab keeps its session) or \"person\" (only user actions do)";
            Err(ValueError::new(what, fix))
        }
    });
    let mut activity = profile.unwrap_or(ActivitySources::TAB);
    for (key, sources) in [
        ("client_frames", vec![&mut activity.client_frames]),
        ("server_frames", vec![&mut activity.server_frames]),
        ("client_pongs", vec![&mut activity.client_pongs]),
        ("requests", vec![&mut activity.requests]),
        ("transfers", vec![&mut activity.uploads, &mut activity.downloads]),
    ] {
        if let Some(counts) = table.scalar(key, boolean) {
            for source in sources {
                *source = counts;
            }
        }
    }
    activity
}
