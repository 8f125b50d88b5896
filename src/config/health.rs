//! `[health]`: where it is asked how idlegate is.

use super::problem::Fault;
use super::section::Section;
use super::{Listen, Upstream, upstream};
use std::net::SocketAddr;

/// Reads `[health]`. `clients` and `app` are the addresses that are taken already.
pub(super) fn health(table: &mut Section<'_, '_>, clients: SocketAddr, app: &Upstream) -> Option<Listen> {
    let listen = table.text("listen", upstream::listen_or_unix)?;
    let clash = match &listen {
        Listen::Tcp(address) if is_same(*address, clients) => Some("clients connect here: it is `listen`"),
        Listen::Tcp(address) if upstream::is_loop(*address, app) => Some("the app listens here: it is `upstream`"),
        Listen::Unix(path) if matches!(app, Upstream::Unix(app) if app == path) => {
            Some("the app listens here: it is `upstream`")
        }
        Listen::Tcp(_) | Listen::Unix(_) => None,
    };
    if let Some(what) = clash {
        table.fault("listen", Fault::new(what, "choose another port, like \"0.0.0.0:9091\""));
    }
    Some(listen)
}

/// Whether two sockets cannot listen at both of these.
fn is_same(one: SocketAddr, other: SocketAddr) -> bool {
    let everywhere = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.port() != 0 && (one.ip() == other.ip() || everywhere)
}
