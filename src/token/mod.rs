//! Tokens: the rules for where they are carried, and how they are found there.
//!
//! A token is turned into its session id where it is found, and dropped: no later stage could leak it.

mod acceptance;
mod carrier;
mod conditions;
mod http;
mod in_band;
pub mod json;
mod rule;
mod secret;
mod take_out;

pub use acceptance::Acceptance;
pub use carrier::Carrier;
pub use conditions::{Conditions, Scalar};
pub use http::{TokenMatch, TokenRules, pasted};
pub use in_band::{ClientMessage, InBand, InBandRules, Offer, ServerMessage};
pub use rule::{Location, TokenRule};
pub use secret::Token;

/// How much of a body or message is examined, in bytes. Tokens stand in small ones.
pub const MAX_EXAMINED_BYTES: usize = 64 * 1024;
