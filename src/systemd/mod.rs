//! Socket activation and notification, in the protocols of systemd, which other service managers support too.
//!
//! `sockets` takes sockets that the service manager opened, so that a restart refuses no connection. `manager` sends
//! the status and watchdog messages. Without a service manager this module does nothing.

mod manager;
mod sockets;

pub use manager::Manager;
pub(crate) use sockets::Socket;
pub use sockets::{HandedOver, UnusableSocket};
