//! Beside the data path: what operators, orchestrators and monitoring can see and change.
//!
//! `listener` accepts connections and speaks HTTP, separately from the app's clients. `health` answers on the
//! `[health]` listener, `api` on the `[admin]` listener, behind `access`. `page` serves the operators' page, and
//! `events` feeds it. `json` and `response` are the forms of the answers, `view` makes them from the registry; errors
//! are in [`crate::refusal`].

mod access;
mod api;
mod events;
mod health;
pub(crate) mod json;
mod listener;
mod page;
mod response;
mod view;

pub(crate) use access::{Access, read as read_token};
pub(crate) use api::Api;
pub(crate) use health::Health;
pub(crate) use listener::{Listener, ListenerLimits};
