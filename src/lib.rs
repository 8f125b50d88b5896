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
mod accept;
mod admin;
pub mod audit;
pub mod clock;
pub mod config;
pub mod counted;
pub mod demo;
pub mod doctor;
pub mod frame;
pub mod keeper;
pub mod log;
pub mod metrics;
pub mod operator;
mod proxy;
mod refusal;
pub mod reload;
mod replica;
pub mod route;
pub mod server;
pub mod session;
pub mod shutdown;
pub mod store;
pub mod systemd;
pub mod token;
pub mod version;
