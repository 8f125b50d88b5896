//! `[admin]`: the address of the admin API.

use super::error::ValueError;
use super::section::Section;
use super::upstream::{self, is_same};
use super::value::absolute;
use crate::address::{AdminListen, Listen, Upstream};
use std::net::SocketAddr;

const HEALTH: &str = "health is served here: it is `health.listen`";

/// Reads `[admin]`. `clients`, `app` and `health` are the addresses already in use.
pub(super) fn admin(
    table: &mut Section<'_, '_>,
    clients: SocketAddr,
    app: &Upstream,
    health: Option<&Listen>,
) -> Option<AdminListen> {
    let token_file = table.text("token_file", |text| absolute(text, "/etc/idlegate/admin-token"));
    let listen = table.text("listen", upstream::listen_or_unix)?;
    let clash = match (&listen, health) {
        (Listen::Tcp(address), Some(Listen::Tcp(health))) if is_same(*address, *health) => Some(HEALTH),
        (Listen::Unix(path), Some(Listen::Unix(health))) if path == health => Some(HEALTH),
        (listen, _) => upstream::clash(listen, clients, app),
    };
    if let Some(what) = clash {
        table.fault("listen", ValueError::new(what, "choose another port, like \"127.0.0.1:9090\""));
    }
    if let Listen::Tcp(address) = &listen
        && !address.ip().is_loopback()
        && token_file.is_none()
    {
        let what = "any client that reaches this address could end sessions and switch idlegate off";
        let fix = "add token_file, or write \"127.0.0.1:9090\" or \"unix:/run/idlegate/admin.sock\"";
        table.fault("listen", ValueError::new(what, fix));
    }
    Some(AdminListen { listen, token_file })
}
