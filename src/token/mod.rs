//! Tokens: the rules for where they are carried, and the code that finds them.
//!
//! A token is converted to its session id where it is found, and then dropped. Later stages cannot leak it.

mod acceptance;
mod carrier;
mod conditions;
mod http;
mod in_band;
pub mod json;
mod pattern;
mod reading;
mod required;
mod rule;
mod secret;
mod take_out;

pub use acceptance::Acceptance;
pub use carrier::Carrier;
pub use conditions::{Conditions, Expected, Scalar};
pub use http::{TokenMatch, TokenRules, pasted};
pub(crate) use http::{decoded_parameter, removes_cookie};
pub use in_band::{ClientMessage, InBand, InBandRules, Offer, ServerMessage};
pub use pattern::Pattern;
pub(crate) use required::Requirements;
pub use rule::{Location, Required, TokenRule};
pub use secret::Token;

/// The maximum size of a body or message that is examined, in bytes. Bodies and messages with tokens are small.
pub const MAX_EXAMINED_BYTES: usize = 64 * 1024;
