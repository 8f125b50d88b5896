//! idlegate: a reverse proxy that enforces an idle timeout in front of a web app.
//!
//! ```text
//!  accept ─► HTTP ─► route ─► find tokens ─► gate: is it live? ──► forward ───────────► upstream
//!                                               │ no                └─► upgrade ─► tunnel ⇄ upstream
//!                                               ▼                                    │ frames, pongs
//!                                             reject                                 ▼
//!                                                          session (in memory) ◄── activity
//!                                                              │ deadline   ▲
//!                                                    cut ◄─────┘            │ flush (ages) / verdicts
//!                                                                       store: memory | file | Redis
//! ```
//! The modules below are grouped by the stages of this picture. A module depends only on its own group and on the
//! groups below it.

// The process: command line, configuration reload, `doctor` and the demo.
pub mod cli;
pub mod demo;
pub mod doctor;
pub mod reload;

// Accept: the public listener, the admin and health listeners, and sockets passed in by systemd.
mod accept;
mod admin;
pub mod listen;
pub mod server;
pub mod systemd;

// One exchange: gate, forward, upgrade, tunnel, cut, reject; and drain.
mod proxy;
mod refusal;
pub mod shutdown;
mod stream;

// The configuration.
pub mod config;

// Sessions in memory, and the audit events and log lines about them.
pub mod audit;
pub mod log;
pub mod registry;

// State that outlives the process, and metrics.
pub mod cut;
mod finding;
pub mod metrics;
pub mod store;
mod token_changes;
mod unmatched;

// Paths, tokens, the WebSocket frames that carry them, and the session rule, which does no I/O.
pub mod ignore;
pub mod route;
pub mod session;
pub mod token;
pub mod websocket;

// Shared foundations.
pub mod address;
pub mod clock;
pub mod counted;
mod descriptors;
mod replica;
mod secret;
mod small_file;
mod sock_diag;
pub mod version;
