//! The `[admin]` and `[health]` listeners, for operators, orchestrators and monitoring.
//!
//! `listener` accepts connections and speaks HTTP. `health` serves the `[health]` listener. `api` serves the `[admin]`
//! listener; `access` checks its requests, `page` holds the files of its page, and `events` streams the page's data.
//! `json`, `view` and `response` define the format of responses. Errors are in [`crate::refusal`].

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
