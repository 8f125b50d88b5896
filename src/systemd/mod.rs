//! systemd's protocols for services, which other service managers use as well.
//!
//! `sockets` takes over sockets that were opened before idlegate starts, so that a restart refuses no connection.
//! `manager` sends status and watchdog notifications. Without a service manager, nothing here does anything.

mod manager;
mod sockets;

pub use manager::Manager;
pub(crate) use sockets::Socket;
pub use sockets::{HandedOver, Unusable};
