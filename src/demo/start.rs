//! The demo as it is started: the app, and the proxy in front of it.

use super::{CONFIG, Glance, Watch, serve};
use crate::config::Config;
use crate::keeper::Keeper;
use crate::server::Server;
use crate::session::SessionId;
use crate::systemd::HandedOver;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::TcpListener;

/// Where the demo listens when nobody says where, if it is free: the port that the first app's page dials.
const USUAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 10086);
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A demo that is ready to be served.
#[derive(Debug)]
pub struct Demo {
    app: TcpListener,
    proxy: Server,
    address: SocketAddr,
}

/// Prepares the demo on `listen`; without it on 127.0.0.1:10086, or on a free port where that is taken.
///
/// # Errors
/// Where no port can be had.
pub async fn start(listen: Option<SocketAddr>) -> io::Result<Demo> {
    let app = TcpListener::bind(ANY).await?;
    let upstream = app.local_addr()?;
    let proxy = match listen {
        Some(listen) => proxy(listen, upstream).await?,
        None => match proxy(USUAL, upstream).await {
            Ok(proxy) => proxy,
            Err(_) => proxy(ANY, upstream).await?,
        },
    };
    let address = proxy.address()?;
    Ok(Demo { app, proxy, address })
}

async fn proxy(listen: SocketAddr, upstream: SocketAddr) -> io::Result<Server> {
    let places = [
        ("IDLEGATE_LISTEN", listen.to_string()),
        ("IDLEGATE_UPSTREAM", format!("http://{upstream}")),
        ("IDLEGATE_ADMIN_LISTEN", ANY.to_string()),
    ];
    let places = places.map(|(name, value)| (name.to_owned(), value)).into_iter().collect();
    let config =
        Config::parse(CONFIG, "demo.toml", &places).map_err(|problems| io::Error::other(problems.to_string()))?;
    Server::bind(config, HandedOver::default()).await.map_err(|error| io::Error::other(error.asked_by("--listen")))
}

impl Demo {
    /// Where the page is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Where the page of operators is.
    ///
    /// # Errors
    /// The system's.
    pub fn operators_url(&self) -> io::Result<String> {
        let admin = self.proxy.admin_address()?;
        admin.map(|admin| format!("{admin}/")).ok_or_else(|| io::Error::other("the demo has no page of operators"))
    }

    /// Serves the app and the proxy until dropped.
    pub async fn run(self) {
        let watch = Arc::new(Watched(Arc::clone(self.proxy.keeper())));
        tokio::select! {
            never = serve(self.app, watch) => match never {},
            () = self.proxy.run() => {}
        }
    }
}

/// The proxy's sessions, for the page to look at.
struct Watched(Arc<Keeper>);

impl Watch for Watched {
    fn glance(&self, session: &SessionId) -> Option<Glance> {
        let session = self.0.known(*session)?;
        let beat = session.pulse().last();
        let (state, source) = match session.ended() {
            Some(ended) => ("ended", ended.source),
            None => ("live", beat.source),
        };
        Some(Glance {
            state,
            source: source.name(),
            idle_ms: self.0.clock().now().since(beat.at),
            limit_seconds: self.0.limits().timeout,
            connections: session.connections(),
        })
    }
}
