//! The demo as it is started: the app, and the proxy in front of it.

use super::events::{LoggedIn, print_sessions};
use super::{CONFIG, Glance, Watch, serve};
use crate::config::Config;
use crate::listen::StartError;
use crate::registry::Registry;
use crate::server::Server;
use crate::session::SessionId;
use crate::systemd::HandedOver;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// The demo's default address, if it is free: the port that the first app's page dials.
const USUAL: SocketAddr = SocketAddr::new(LOCALHOST, 10086);
const ANY: SocketAddr = SocketAddr::new(LOCALHOST, 0);

/// How often a free port is looked for: another program may take it before the demo does.
const ATTEMPTS: usize = 10;

/// How many logins may wait for their line. Further ones get none.
const MAX_LOGINS: usize = 1000;

/// A demo that is ready to be served.
#[derive(Debug)]
pub struct Demo {
    app: TcpListener,
    proxy: Server,
    address: SocketAddr,
}

/// Prepares the demo on `listen`; without it on 127.0.0.1:10086, or on a free port if that is taken. The operators'
/// page is on the next port, or on a free one if that is taken.
///
/// # Errors
/// No port can be had.
pub async fn start(listen: Option<SocketAddr>) -> io::Result<Demo> {
    let app = TcpListener::bind(ANY).await?;
    let upstream = app.local_addr()?;
    let proxy = match listen {
        Some(listen) if listen.port() != 0 => proxy(listen, upstream).await,
        Some(any) => proxy_on_a_free_port(any, upstream).await,
        None => match proxy(USUAL, upstream).await {
            Err(StartError::Listen { .. }) => proxy_on_a_free_port(ANY, upstream).await,
            started => started,
        },
    };
    let proxy = proxy.map_err(|error| io::Error::other(error.asked_by("--listen")))?;
    let address = proxy.address()?;
    Ok(Demo { app, proxy, address })
}

/// The port must be known before the proxy starts, so that the operators' page can be next to it.
async fn proxy_on_a_free_port(any: SocketAddr, upstream: SocketAddr) -> Result<Server, StartError> {
    let mut attempts = 1;
    loop {
        let free = std::net::TcpListener::bind(any).and_then(|listener| listener.local_addr());
        match proxy(free.unwrap_or(any), upstream).await {
            Err(StartError::Listen { .. }) if attempts < ATTEMPTS => attempts += 1,
            started => return started,
        }
    }
}

async fn proxy(listen: SocketAddr, upstream: SocketAddr) -> Result<Server, StartError> {
    if let Some(next) = next_to(listen) {
        match proxy_and_operators(listen, next, upstream).await {
            // The other listener: `listen` itself could be had.
            Err(StartError::Listen { key, .. }) if key != "`listen`" => {}
            started => return started,
        }
    }
    proxy_and_operators(listen, ANY, upstream).await
}

/// The address of the operators' page. On loopback, wherever the demo listens: it needs no token.
fn next_to(address: SocketAddr) -> Option<SocketAddr> {
    Some(SocketAddr::new(LOCALHOST, address.port().checked_add(1)?))
}

async fn proxy_and_operators(
    listen: SocketAddr,
    operators: SocketAddr,
    upstream: SocketAddr,
) -> Result<Server, StartError> {
    let places = [
        ("IDLEGATE_LISTEN", listen.to_string()),
        ("IDLEGATE_UPSTREAM", format!("http://{upstream}")),
        ("IDLEGATE_ADMIN_LISTEN", operators.to_string()),
    ];
    let places = places.map(|(name, value)| (name.to_owned(), value)).into_iter().collect();
    let config = Config::parse(CONFIG, "demo.toml", &places).map_err(StartError::store)?;
    Server::bind(config, HandedOver::default()).await
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

    /// What is not where one would look for it, and why; lines for the terminal.
    ///
    /// # Errors
    /// The system's.
    pub fn elsewhere(&self, asked: Option<SocketAddr>) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        if asked.is_none() && self.address != USUAL {
            lines.push(format!("  Port {} is taken by another program, so the demo has another one.\n", USUAL.port()));
        }
        let operators = self.operators_url()?;
        if let Some(next) = next_to(self.address)
            && operators != format!("http://{next}/")
        {
            lines.push(format!(
                "  Port {} is taken by another program, so the operators' page has another one.\n",
                next.port()
            ));
        }
        Ok(lines)
    }

    /// Serves the app and the proxy until dropped, and prints a line for each login and each end of a session.
    pub async fn run(self, print: impl Fn(String)) {
        let registry = Arc::clone(self.proxy.registry());
        let (logins, logged_in) = mpsc::channel(MAX_LOGINS);
        let watch = Arc::new(Watched { registry: Arc::clone(&registry), logins });
        tokio::select! {
            never = serve(self.app, watch) => match never {},
            () = print_sessions(&registry, logged_in, print) => {}
            () = self.proxy.run() => {}
        }
    }
}

/// The proxy's sessions, for the page to look at.
struct Watched {
    registry: Arc<Registry>,
    logins: mpsc::Sender<LoggedIn>,
}

impl Watch for Watched {
    fn glance(&self, session: &SessionId) -> Option<Glance> {
        let session = self.registry.known(*session)?;
        let latest = session.activity_record().last();
        let (state, source) = match session.ended() {
            Some(ended) => ("ended", ended.source),
            None => ("live", latest.source),
        };
        Some(Glance {
            state,
            source: source.name(),
            idle_ms: self.registry.clock().now().since(latest.at),
            limit_seconds: self.registry.limits().timeout,
            connections: session.connections(),
        })
    }
    fn logged_in(&self, username: &str, session: SessionId) {
        // If too many wait, this one gets no line.
        let _ = self.logins.try_send(LoggedIn { username: username.to_owned(), session });
    }
}
