//! idlegate: a reverse proxy that gives a web app the idle timeout it gets wrong.
//!
//! ```text
//!  accept ─► HTTP ─► route ─► find tokens ─► gate: may it pass? ─► forward ───────────► upstream
//!                                               │ no                └─► upgrade ─► tunnel ⇄ upstream
//!                                               ▼                                    │ frames, pongs
//!                                             reject                                 ▼
//!                                                          session (in memory) ◄── activity
//!                                                              │ deadline   ▲
//!                                                    cut ◄─────┘            │ flush (ages) / verdicts
//!                                                                       store: memory | file | Redis
//! ```
//! The modules stand in groups, by the stages of this picture. Each depends on others of its group, and of those below it.

// The process: what is done about a configuration, from the command line, or to be seen.
pub mod cli;
pub mod demo;
pub mod doctor;
pub mod reload;

// Accept: the public listener, the listeners beside it, and sockets passed by the service manager.
mod accept;
mod admin;
pub mod listen;
pub mod server;
pub mod systemd;

// An exchange: gate, forward, upgrade, tunnel, cut, reject; and its end in a drain.
mod proxy;
mod refusal;
pub mod shutdown;
mod stream;

// The configuration.
pub mod config;

// Sessions in memory, and the record of what is decided about them.
pub mod audit;
pub mod log;
pub mod registry;

// What outlives the process, and what is counted.
pub mod cut;
mod finding;
pub mod metrics;
pub mod store;
mod token_changes;
mod unmatched;

// Whose it is: the path, the tokens, the frames that carry them, and the rule of sessions, which is pure.
pub mod route;
pub mod session;
pub mod token;
pub mod websocket;

// What all of them stand on.
pub mod address;
pub mod clock;
pub mod counted;
mod descriptors;
mod replica;
mod secret;
mod small_file;
pub mod version;
