//! Tunnels: the same bytes on both sides, and an end that reaches both.

mod cost;
mod cut;
mod ending;
mod handshake;
mod relay;
