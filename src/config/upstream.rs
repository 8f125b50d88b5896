//! Addresses of idlegate and of the app.

use super::error::{ValueError, echo};
use crate::address::{Listen, Upstream};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

/// `listen`.
pub(super) fn listen(text: &str) -> Result<SocketAddr, ValueError> {
    text.parse().map_err(|_| {
        let port = text.rsplit(':').next().filter(|port| port.parse::<u16>().is_ok());
        let what = format!("{} is not an IP address and a port", echo(text));
        let fix = match (port, text.rsplit_once(':').map_or("", |(host, _)| host)) {
            (Some(port), "localhost") => format!("names are not looked up: write \"127.0.0.1:{port}\""),
            (Some(port), "" | "*") => {
                format!("write \"127.0.0.1:{port}\" for this host alone, or \"0.0.0.0:{port}\" for every network")
            }
            _ => "write it like \"127.0.0.1:10086\" or \"[::1]:10086\"".to_owned(),
        };
        ValueError::new(what, fix)
    })
}

/// `listen` in a table. Unlike the top-level one, it may be a Unix socket.
pub(super) fn listen_or_unix(text: &str) -> Result<Listen, ValueError> {
    match text.strip_prefix("unix:") {
        Some(path) => unix(path).map(Listen::Unix),
        None => listen(text).map(Listen::Tcp),
    }
}

/// Why `listen` cannot be used: clients connect there, or the app listens there.
pub(super) fn clash(listen: &Listen, clients: SocketAddr, app: &Upstream) -> Option<&'static str> {
    match listen {
        Listen::Tcp(address) if is_same(*address, clients) => Some("clients connect here: it is `listen`"),
        Listen::Tcp(address) if is_loop(*address, app) => Some("the app listens here: it is `upstream`"),
        Listen::Unix(path) if matches!(app, Upstream::Unix(app) if app == path) => {
            Some("the app listens here: it is `upstream`")
        }
        Listen::Tcp(_) | Listen::Unix(_) => None,
    }
}

/// Whether two sockets cannot listen on these addresses at the same time.
pub(super) fn is_same(one: SocketAddr, other: SocketAddr) -> bool {
    let everywhere = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.port() != 0 && (one.ip() == other.ip() || everywhere)
}

/// `upstream`.
pub(crate) fn upstream(text: &str) -> Result<Upstream, ValueError> {
    const FIX: &str = "write it like \"http://127.0.0.1:10087\" or \"unix:/run/app.sock\"";
    if let Some(path) = text.strip_prefix("unix:") {
        return unix(path).map(Upstream::Unix);
    }
    let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    let rest = match scheme.as_deref() {
        Some("http") => &text["http://".len()..],
        Some("https") => {
            return Err(ValueError::new(
                "TLS to the app is not supported",
                "write \"http://…\" and run idlegate on the host of the app, or put a TLS client between them",
            ));
        }
        // The value is not repeated: it could contain a password before an "@".
        Some(_) => return Err(ValueError::new("only http:// and unix: are supported", FIX)),
        None => return Err(ValueError::new("it begins with neither http:// nor unix:", FIX)),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains('@') {
        return Err(ValueError::new("a user or password before \"@\" is not supported", FIX));
    }
    if authority.contains(['/', '?', '#']) {
        let fix = "leave out what follows host and port: paths are forwarded unchanged";
        return Err(ValueError::new(format!("{} has a path or a query", echo(text)), fix));
    }
    let (host, port) = host_and_port(authority)
        .ok_or_else(|| ValueError::new(format!("{} is not a host and a port", echo(authority)), FIX))?;
    Ok(Upstream::Tcp(format!("{host}:{port}")))
}

fn unix(path: &str) -> Result<PathBuf, ValueError> {
    /// `sun_path` has 108 bytes, including the terminating NUL.
    const MAX_LENGTH: usize = 107;
    const FIX: &str = "write the absolute path of the socket, like \"unix:/run/app.sock\"";
    if !path.starts_with('/') || path.contains('\0') {
        return Err(ValueError::new(format!("{} is not an absolute path", echo(path)), FIX));
    }
    // `unix:///run/app.sock` is the same path.
    let path = format!("/{}", path.trim_start_matches('/'));
    if path.len() > MAX_LENGTH {
        return Err(ValueError::new(format!("the path of a socket may have up to {MAX_LENGTH} bytes"), FIX));
    }
    if path.ends_with('/') {
        return Err(ValueError::new(format!("{} is a directory", echo(&path)), FIX));
    }
    Ok(PathBuf::from(path))
}

fn host_and_port(authority: &str) -> Option<(&str, u16)> {
    let (host, port) = match authority.rfind(']') {
        Some(end) => authority.split_at(end + 1),
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port = match port.strip_prefix(':') {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().ok().filter(|port| *port > 0)?
        }
        None if port.is_empty() => 80,
        Some(_) | None => return None,
    };
    let right = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.len() <= 253
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        }
    };
    right.then_some((host, port))
}

/// Whether `upstream` is the `listen` address itself: idlegate would forward requests to itself in an endless loop.
pub(super) fn is_loop(listen: SocketAddr, upstream: &Upstream) -> bool {
    let Upstream::Tcp(address) = upstream else { return false };
    let Some((host, port)) = host_and_port(address) else { return false };
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
    let local = host.eq_ignore_ascii_case("localhost") || ip.is_some_and(|ip| ip.is_loopback() || ip.is_unspecified());
    let here = ip == Some(listen.ip())
        || local && (listen.ip().is_unspecified() || (ip.is_none() && listen.ip().is_loopback()));
    listen.port() == port && here
}
