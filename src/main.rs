//! The command line: arguments, signals, exit codes.

use clap::{Args, Parser, Subcommand};
use idlegate::audit::Sink;
use idlegate::cli;
use idlegate::config::{Config, Summary, Variables, warnings};
use idlegate::counted::counted;
use idlegate::log;
use idlegate::reload::Reload;
use idlegate::server::Server;
use idlegate::shutdown::Shutdown;
use idlegate::systemd::{HandedOver, Manager};
use idlegate::version;
use std::convert::Infallible;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Termination};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::level_filters::LevelFilter;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Shown below the help: what an operator in trouble looks for.
const ROLL_BACK: &str = "Roll back: `idlegate mode observe --fleet` stops all expiry within a second, and `idlegate mode off --fleet` passes
everything through. Without Redis, leave out --fleet. Both need [admin] listen; `mode = \"off\"` under [idle] in the file
does the same.";

/// Enforces an idle timeout in front of a web app, without changing the app.
#[derive(Debug, Parser)]
#[command(version = version::BOTH, after_help = ROLL_BACK)]
struct Arguments {
    /// The configuration file. An environment variable can set each of its keys: `IDLEGATE_IDLE_TIMEOUT=30m`.
    #[arg(long, env = "IDLEGATE_CONFIG", default_value = "proxy.toml")]
    config: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
}

/// `--config` after a subcommand. It is not a global option because the demo has its own configuration.
#[derive(Debug, Default, Args)]
struct Configured {
    /// The configuration file [default: `IDLEGATE_CONFIG`, or proxy.toml].
    #[arg(long)]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy (the default).
    Run(Configured),
    /// Check the configuration and print all errors, each with its fix. Exit code 2 if there are errors.
    Check {
        #[command(flatten)]
        configured: Configured,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Check what idlegate depends on: the app and the store. Exit code 1 if a check fails.
    Doctor {
        #[command(flatten)]
        configured: Configured,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    #[command(flatten)]
    Operator(cli::OperatorCommand),
    /// Watch idlegate cut an idle session: runs it in front of a small bundled app, with an idle timeout of 30 s.
    Demo {
        /// Where to listen [default: 127.0.0.1:10086, or a free port].
        #[arg(long, value_parser = address)]
        listen: Option<SocketAddr>,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let path = |configured: Configured| configured.config.unwrap_or(arguments.config);
    match arguments.command.unwrap_or(Command::Run(Configured::default())) {
        Command::Run(configured) => {
            let path = path(configured);
            // This changes the environment, so no other thread may run yet.
            let handed_over = HandedOver::take();
            with_config(&path, |config| match (Sink::open(&config.audit), handed_over) {
                (Ok(audit), Ok(handed_over)) => {
                    let (_written, level) = log::begin(config.reloadable.log, config.log_format, &audit);
                    // Dropped before the log guard, because it logs the records that it could not write.
                    let _audit = audit;
                    block_on(run(&path, config, handed_over, level))
                }
                (Err(error), _) => failed(&io::Error::other(format!("audit: {error}"))),
                (_, Err(unusable)) => failed(&io::Error::other(unusable)),
            })
        }
        Command::Check { configured, json } => {
            let path = path(configured);
            check(&path, json)
        }
        Command::Doctor { configured, json } => with_config(&path(configured), |config| block_on(doctor(config, json))),
        Command::Operator(command) => block_on(operate(command, path(Configured::default()))),
        Command::Demo { listen } => {
            let (_written, _) = log::begin(LevelFilter::INFO, log::LogFormat::Text, &Sink::none());
            block_on(demo(listen))
        }
    }
}

fn with_config(path: &Path, then: impl FnOnce(Config) -> ExitCode) -> ExitCode {
    match Config::load(path, &Variables::of_this_process()) {
        Ok(config) => then(config),
        Err(problems) => {
            eprintln!("{problems}");
            ExitCode::from(cli::EXIT_CONFIG)
        }
    }
}

fn block_on<T: Termination>(serving: impl Future<Output = io::Result<T>>) -> ExitCode {
    let served = tokio::runtime::Builder::new_multi_thread().enable_all().build().and_then(|runtime| {
        let served = runtime.block_on(serving);
        // Tasks clean up after themselves. A blocking thread that hangs on a disk must not delay the exit.
        runtime.shutdown_timeout(Duration::from_millis(200));
        served
    });
    match served {
        Ok(done) => done.report(),
        Err(error) => failed(&error),
    }
}

fn failed(error: &io::Error) -> ExitCode {
    eprintln!("idlegate: {error}");
    ExitCode::FAILURE
}

async fn run(path: &Path, config: Config, handed_over: HandedOver, level: impl Fn(LevelFilter)) -> io::Result<()> {
    // From here on these signals no longer kill the process.
    let (hang_up, stop) = (signal(SignalKind::hangup())?, Stop::new()?);
    let (summary, upstream) = (Summary::of(&config), config.upstream.to_string());
    let server = Server::bind(config.clone(), handed_over).await.map_err(io::Error::other)?;
    if let Some(health) = server.health_address()? {
        tracing::info!("health and metrics at {health}");
    }
    if let Some(admin) = server.admin_address()? {
        tracing::info!("admin API and page at {admin}");
    }
    tracing::info!(
        version = version::VERSION,
        revision = version::REVISION,
        upstream,
        mode = summary.mode,
        store = summary.store,
        profile = summary.profile,
        limit = format!("{}s", summary.limit),
        token_rules = summary.token_rules,
        replica = server.registry().replica(),
        "listening on http://{}",
        server.address()?
    );
    let shutdown = server.shutdown().clone();
    let manager = Manager::of_this_process(Arc::clone(server.registry()), shutdown.clone());
    let reload = Reload::new(path, config, &server, manager.clone());
    tokio::spawn(manager.clone().follow());
    tokio::select! {
        () = server.run() => Ok(()),
        never = stop_on_signal(stop, shutdown, &manager) => match never {},
        never = reload.follow(hang_up, level) => match never {},
    }
}

/// Prints to stdout. A closed pipe is not an error: a reader such as `head` may stop early.
fn print(text: &str) -> io::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// Prints the result of `check`.
fn check(path: &Path, json: bool) -> ExitCode {
    let loaded = Config::load(path, &Variables::of_this_process());
    let (text, code) = match &loaded {
        Ok(config) if json => {
            let checked = serde_json::json!({
                "valid": true,
                "listen": config.listen.to_string(),
                "summary": Summary::of(config),
                "warnings": warnings(config),
            });
            (format!("{checked}\n"), ExitCode::SUCCESS)
        }
        Ok(config) => {
            let Summary { mode, store, profile, limit, token_rules } = Summary::of(config);
            let rules = counted(token_rules, "token rule");
            let (file, listen) = (path.display(), config.listen);
            let mut text = format!(
                "{file}: valid; {rules}, limit {limit} s, listens on {listen}, mode {mode}, store {store}, \
                 profile {profile}\n"
            );
            for warning in warnings(config) {
                text.extend(["warning: ", &warning, "\n"]);
            }
            (text, ExitCode::SUCCESS)
        }
        Err(problems) if json => {
            let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
            let checked = serde_json::json!({ "valid": false, "problems": problems });
            (format!("{checked}\n"), ExitCode::from(cli::EXIT_CONFIG))
        }
        Err(problems) => {
            eprintln!("{problems}");
            return ExitCode::from(cli::EXIT_CONFIG);
        }
    };
    print(&text).map_or_else(|error| failed(&error), |()| code)
}

async fn doctor(config: Config, json: bool) -> io::Result<()> {
    let findings = idlegate::doctor::examine(&config).await;
    if json {
        print(&format!("{}\n", serde_json::json!({ "checks": findings })))?;
    } else {
        for finding in &findings {
            print(&format!("{finding}\n"))?;
        }
    }
    match findings.iter().filter(|finding| finding.is_wrong()).count() {
        0 => Ok(()),
        wrong => Err(io::Error::other(format!("{wrong} of {} failed", counted(findings.len(), "check")))),
    }
}

async fn operate(command: cli::OperatorCommand, config: PathBuf) -> io::Result<ExitCode> {
    match cli::run(&command, &config, &Variables::of_this_process()).await {
        Ok(text) => print(&text).map(|()| ExitCode::SUCCESS),
        Err(error) => {
            eprintln!("idlegate: {error}");
            Ok(ExitCode::from(error.exit_code()))
        }
    }
}

/// An IP address with a port.
fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        let port = text.rsplit(':').next().and_then(|port| port.parse::<u16>().ok()).unwrap_or(8080);
        format!("write an IP address and a port: --listen 127.0.0.1:{port}")
    })
}

async fn demo(listen: Option<SocketAddr>) -> io::Result<()> {
    let demo = idlegate::demo::start(listen).await?;
    let elsewhere = demo.elsewhere(listen)?.concat();
    print(&format!(
        "\n  idlegate demo: an idle session is cut after 30 seconds.\n  Open  {}\n  \
         and the operators' page  {}\n{elsewhere}\n  Press Ctrl-C to stop.\n\n",
        demo.url(),
        demo.operators_url()?
    ))?;
    // SIGHUP comes when the terminal is closed.
    let (mut hang_up, mut stop) = (signal(SignalKind::hangup())?, Stop::new()?);
    // The demo goes on even if nothing can be printed.
    let print_line = |line| drop(print(&format!("  {line}\n")));
    tokio::select! {
        () = demo.run(print_line) => {}
        () = stop.requested() => {}
        _ = hang_up.recv() => {}
    }
    Ok(())
}

/// Passes each stop signal on, forever: the second one hurries the shutdown.
async fn stop_on_signal(mut signals: Stop, shutdown: Shutdown, manager: &Manager) -> Infallible {
    manager.ready();
    loop {
        signals.requested().await;
        shutdown.stop();
        manager.stopping();
    }
}

/// SIGTERM and SIGINT, which both start a graceful stop. Once this exists they no longer kill the process.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn requested(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
