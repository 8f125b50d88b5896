//! Starts the demo: the app, and the proxy in front of it.

use super::report::{LoggedIn, report_sessions};
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
/// The default address, if it is free. It has the port that the page of the real app uses.
const DEFAULT: SocketAddr = SocketAddr::new(LOCALHOST, 10086);
const ANY: SocketAddr = SocketAddr::new(LOCALHOST, 0);

/// How many free ports are tried, because another program may take one before the demo does.
const ATTEMPTS: usize = 10;

/// The capacity of the login queue. Further logins are not printed.
const MAX_QUEUED_LOGINS: usize = 1000;

/// A demo that is ready to be served.
#[derive(Debug)]
pub struct Demo {
    app: TcpListener,
    proxy: Server,
    address: SocketAddr,
}

/// Prepares the demo on `listen`. The default is 127.0.0.1:10086, or a free port if that one is in use. The operators'
/// page is on the next port, or on a free one.
///
/// # Errors
/// If no port is available.
pub async fn start(listen: Option<SocketAddr>) -> io::Result<Demo> {
    let app = TcpListener::bind(ANY).await?;
    let upstream = app.local_addr()?;
    let proxy = match listen {
        Some(listen) if listen.port() != 0 => proxy(listen, upstream).await,
        Some(any) => proxy_on_a_free_port(any, upstream).await,
        None => match proxy(DEFAULT, upstream).await {
            Err(StartError::Listen { .. }) => proxy_on_a_free_port(ANY, upstream).await,
            started => started,
        },
    };
    let proxy = proxy.map_err(|error| io::Error::other(error.asked_by("--listen")))?;
    let address = proxy.address()?;
    Ok(Demo { app, proxy, address })
}

/// Chooses the port before the proxy starts, so that the operators' page can use the next one.
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
            // Only the operators' port is taken.
            Err(StartError::Listen { key, .. }) if key != "`listen`" => {}
            started => return started,
        }
    }
    proxy_and_operators(listen, ANY, upstream).await
}

/// The address of the operators' page: the next port. Always on loopback, because the page requires no token.
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
    /// The URL of the app's page.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// The URL of the operators' page.
    ///
    /// # Errors
    /// The system's.
    pub fn operators_url(&self) -> io::Result<String> {
        let admin = self.proxy.admin_address()?;
        admin.map(|admin| format!("{admin}/")).ok_or_else(|| io::Error::other("the demo has no operators' page"))
    }

    /// Lines for the terminal about ports that are not the default ones, and why.
    ///
    /// # Errors
    /// The system's.
    pub fn elsewhere(&self, asked: Option<SocketAddr>) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        if asked.is_none() && self.address != DEFAULT {
            lines.push(format!("  Port {} is in use, so the demo uses another port.\n", DEFAULT.port()));
        }
        let operators = self.operators_url()?;
        if let Some(next) = next_to(self.address)
            && operators != format!("http://{next}/")
        {
            lines.push(format!("  Port {} is in use, so the operators' page uses another port.\n", next.port()));
        }
        Ok(lines)
    }

    /// Serves the app and the proxy until dropped. Prints a line for each login and for each end of a session.
    pub async fn run(self, print: impl Fn(String)) {
        let registry = Arc::clone(self.proxy.registry());
        let (logins, logged_in) = mpsc::channel(MAX_QUEUED_LOGINS);
        let watch = Arc::new(Watched { registry: Arc::clone(&registry), logins });
        tokio::select! {
            never = serve(self.app, watch) => match never {},
            () = report_sessions(&registry, logged_in, print) => {}
            () = self.proxy.run() => {}
        }
    }
}

/// Gives the page access to the proxy's sessions.
struct Watched {
    registry: Arc<Registry>,
    logins: mpsc::Sender<LoggedIn>,
}

impl Watch for Watched {
    fn glance(&self, session: &SessionId) -> Option<Glance> {
        let session = self.registry.table.known(*session)?;
        let last = session.activity_record().last();
        let (state, source) = match session.ended() {
            Some(ended) => ("ended", ended.source),
            None => ("live", last.source),
        };
        Some(Glance {
            state,
            source: source.name(),
            idle_ms: self.registry.clock().now().since(last.at),
            limit_seconds: self.registry.limits().timeout,
            connections: session.connections(),
        })
    }
    fn logged_in(&self, username: &str, session: SessionId) {
        // If the queue is full, this login is not printed.
        let _ = self.logins.try_send(LoggedIn { username: username.to_owned(), session });
    }
}
