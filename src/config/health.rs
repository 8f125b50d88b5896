//! `[health]`: the address of the health checks and metrics.

use super::error::ValueError;
use super::section::Section;
use super::upstream;
use crate::address::{Listen, Upstream};
use std::net::SocketAddr;

/// Reads `[health]`. `clients` and `app` are the addresses already in use.
pub(super) fn health(table: &mut Section<'_, '_>, clients: SocketAddr, app: &Upstream) -> Option<Listen> {
    let listen = table.text("listen", upstream::listen_or_unix)?;
    let clash = upstream::clash(&listen, clients, app);
    if let Some(what) = clash {
        table.fault("listen", ValueError::new(what, "choose another port, like \"0.0.0.0:9091\""));
    }
    Some(listen)
}
