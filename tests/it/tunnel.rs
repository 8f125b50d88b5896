//! Tunnels: the same bytes on both sides, and an end that both sides hear of.

mod cost;
mod cut;
mod ending;
mod handshake;
mod relay;
