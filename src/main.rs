//! The command line: arguments, signals, exit codes.

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use idlegate::audit::Sink;
use idlegate::cli::{self, CliError, Source, Starting};
use idlegate::config::{Config, Problems, Summary, Variables, in_pod, unshared};
use idlegate::counted::counted;
use idlegate::log;
use idlegate::reload::{self, Reload};
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
    /// Run the proxy (the default), from a file or from arguments alone.
    Run(Starting),
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
        #[command(flatten)]
        watching: cli::Watching,
    },
    /// Write a configuration to begin with, for an app such as django or jupyterlab.
    Init(cli::Initializing),
    #[command(flatten)]
    Operator(cli::OperatorCommand),
    /// Watch idlegate cut an idle session: runs it in front of a small bundled app, with an idle timeout of 30 s.
    Demo {
        /// Where to listen [default: 127.0.0.1:10086, or a free port].
        #[arg(long, value_parser = address)]
        listen: Option<SocketAddr>,
    },
    /// Print the completions for a shell.
    Completions(cli::Completing),
    /// Print the man page, or write those of all commands to a folder.
    Man(cli::Documenting),
}

fn main() -> ExitCode {
    let matches = Arguments::command().get_matches();
    let names_file = matches.value_source("config") == Some(ValueSource::CommandLine);
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let file = arguments.config;
    let path = |configured: Configured| configured.config.unwrap_or_else(|| file.clone());
    match arguments.command.unwrap_or_else(|| Command::Run(Starting::default())) {
        Command::Run(starting) => {
            let prints_config = starting.prints_config();
            let source = starting.source(file);
            if names_file && matches!(source, Source::Arguments(_)) {
                let conflict =
                    "--config cannot be used with --upstream, which runs without a file: leave out one of them";
                Arguments::command().error(ErrorKind::ArgumentConflict, conflict).exit();
            }
            match source.load(&Variables::of_this_process()) {
                Ok(config) => match source {
                    Source::Arguments(text) if prints_config => printed(&text, ExitCode::SUCCESS),
                    source => start(&source, config),
                },
                Err(problems) => invalid(&problems),
            }
        }
        Command::Check { configured, json } => {
            match cli::check(&path(configured), &Variables::of_this_process(), json) {
                Ok((text, true)) => printed(&text, ExitCode::SUCCESS),
                Ok((text, false)) => printed(&text, ExitCode::from(cli::EXIT_CONFIG)),
                Err(problems) => invalid(&problems),
            }
        }
        Command::Doctor { configured, json, watching } => match watching.watch {
            Some(lasting) => block_on(find_timers(watching, lasting, path(configured))),
            None => with_config(&path(configured), |config| block_on(doctor(config, json))),
        },
        Command::Init(initializing) => done(cli::init(&initializing).map_err(io::Error::other)),
        Command::Operator(command) => block_on(operate(command, path(Configured::default()))),
        Command::Completions(completing) => done(Ok(cli::completions(&completing, Arguments::command()))),
        Command::Man(documenting) => done(cli::man(&documenting, Arguments::command())),
        Command::Demo { listen } => {
            let (_written, _) = log::begin(LevelFilter::INFO, log::LogFormat::Text, &Sink::none());
            block_on(demo(listen))
        }
    }
}

/// Runs the proxy.
fn start(source: &Source, config: Config) -> ExitCode {
    // This changes the environment, so no other thread may run yet.
    let handed_over = HandedOver::take();
    match (Sink::open(&config.audit), handed_over) {
        (Ok(audit), Ok(handed_over)) => {
            let (_written, level) = log::begin(config.reloadable.log, config.log_format, &audit);
            // Dropped before the log guard, because it logs the records that it could not write.
            let _audit = audit;
            block_on(run(source, config, handed_over, level))
        }
        (Err(error), _) => failed(&io::Error::other(format!("audit: {error}"))),
        (_, Err(unusable)) => failed(&io::Error::other(unusable)),
    }
}

fn with_config(path: &Path, then: impl FnOnce(Config) -> ExitCode) -> ExitCode {
    Config::load(path, &Variables::of_this_process()).map_or_else(|problems| invalid(&problems), then)
}

fn invalid(problems: &Problems) -> ExitCode {
    eprintln!("{problems}");
    ExitCode::from(cli::EXIT_CONFIG)
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

async fn run(source: &Source, config: Config, handed_over: HandedOver, level: impl Fn(LevelFilter)) -> io::Result<()> {
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
    if let Some(warning) = unshared(&config, in_pod()) {
        tracing::warn!("{warning}");
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
    for limit in source.limits(&summary) {
        tracing::info!("{limit}");
    }
    let shutdown = server.shutdown().clone();
    let manager = Manager::of_this_process(Arc::clone(server.registry()), shutdown.clone());
    let reload = match source {
        Source::File(path) => Some(Reload::new(path, config, &server, manager.clone())),
        Source::Arguments(_) => None,
    };
    let reload = async {
        match reload {
            Some(reload) => reload.follow(hang_up, level).await,
            None => reload::without_file(hang_up, &manager).await,
        }
    };
    tokio::spawn(manager.clone().follow());
    tokio::select! {
        () = server.run() => Ok(()),
        never = stop_on_signal(stop, shutdown, &manager) => match never {},
        never = reload => match never {},
    }
}

/// Prints to stdout. A closed pipe is not an error: a reader such as `head` may stop early.
fn print(text: &str) -> io::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// Prints to stdout and ends with this code.
fn printed(text: &str, code: ExitCode) -> ExitCode {
    print(text).map_or_else(|error| failed(&error), |()| code)
}

/// Prints what a command returned.
fn done(result: io::Result<String>) -> ExitCode {
    result.map_or_else(|error| failed(&error), |text| printed(&text, ExitCode::SUCCESS))
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

async fn find_timers(watching: cli::Watching, lasting: Duration, config: PathBuf) -> io::Result<ExitCode> {
    told(cli::propose_rules(watching, lasting, &config, &Variables::of_this_process()).await)
}

async fn operate(command: cli::OperatorCommand, config: PathBuf) -> io::Result<ExitCode> {
    told(cli::run(&command, &config, &Variables::of_this_process()).await)
}

/// Prints what a command of operators returned.
fn told(result: Result<String, CliError>) -> io::Result<ExitCode> {
    match result {
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
