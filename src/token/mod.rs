//! Tokens: the rules that say where they are carried, and the places they are found in.

pub mod json;
mod rule;

pub use rule::{Conditions, Place, Scalar, TokenRule};
