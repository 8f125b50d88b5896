//! What a service manager hands over, and what it is told: systemd's protocols, which others speak as well.
//!
//! `sockets` are listened on before idlegate starts, so that a restart refuses nobody. `manager` is told how it goes, and
//! that idlegate lives. Without a service manager there is neither, and nothing here does anything.

mod manager;
mod sockets;

pub use manager::Manager;
pub(crate) use sockets::Socket;
pub use sockets::{HandedOver, Unusable};
