//! The room beside the data path: what operators, orchestrators and monitoring see of a replica, and may change.
//!
//! `listener` accepts and speaks HTTP, on a few short connections that the app's clients never feel. `health` is what the
//! `[health]` listener answers. `api` is what the `[admin]` listener answers, behind its `access`. Its `page` is for
//! people, and `events` tell it what there is to see. `answer` is the form of all that is said there, and what is refused is
//! said in [`crate::refusal`].

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
