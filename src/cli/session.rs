//! `idlegate explain`, `sessions`, `end` and `extend`.

use super::client::{AdminClient, Reply};
use super::connect::At;
use super::error::CliError;
use super::paste;
use crate::admin::json::Explained;
use crate::config::{ForOperators, duration};
use crate::session::{CERTAIN_DIGITS, ID_DIGITS, SHOWN_DIGITS};
use crate::token;
use http::{Method, StatusCode};
use std::time::Duration;

/// Which session is explained.
#[derive(Debug, clap::Args)]
pub struct Explaining {
    /// The session id, as the log shows it, or its first digits (4 or more). Never the token.
    #[arg(required_unless_present = "token_stdin")]
    id: Option<String>,
    /// Read the token from standard input, and explain its session. A token is never an argument: it would stay in the
    /// shell's history, and other users of this host could read it in the list of processes. It is turned into its
    /// session id here, with the configuration's `store.secret`, and is not sent anywhere.
    #[arg(long, conflicts_with = "id")]
    token_stdin: bool,
    #[command(flatten)]
    pub(super) at: At,
}

/// Which sessions are listed.
#[derive(Debug, clap::Args)]
pub struct Listing {
    /// Only those that have been idle for so long, like `30m`.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    idle_over: Option<Duration>,
    #[command(flatten)]
    pub(super) at: At,
}

/// Which session it is about.
#[derive(Debug, clap::Args)]
pub struct One {
    /// The session id, as the log shows it, or its first digits (8 or more). Never the token.
    id: String,
    #[command(flatten)]
    pub(super) at: At,
}

pub(super) async fn explain<'c>(
    explaining: &Explaining,
    client: &'c AdminClient,
    config: &ForOperators,
) -> Result<Reply<'c>, CliError> {
    if let Some(id) = &explaining.id {
        return ask(Method::GET, &id_in(id, SHOWN_DIGITS)?, "", client).await;
    }
    let ids = config.ids().map_err(CliError::NoSecret)?;
    let pasted = paste::token().await.map_err(CliError::Input)?;
    // A browser shows tokens as they travel, which may be in percent-encoding or quotes.
    let mut answered = Err(CliError::Empty);
    for token in token::pasted(&pasted) {
        answered = ask(Method::GET, &token.session_id(ids).to_string(), "", client).await;
        if !matches!(&answered, Err(CliError::Unknown(..))) {
            break;
        }
    }
    answered
}

pub(super) async fn list<'c>(listing: &Listing, client: &'c AdminClient) -> Result<Reply<'c>, CliError> {
    let idle_over = listing.idle_over.map_or(0, |idle| idle.as_secs());
    client.ask(Method::GET, &format!("/sessions?idle_over={idle_over}"), String::new()).await
}

pub(super) async fn end<'c>(one: &One, client: &'c AdminClient) -> Result<Reply<'c>, CliError> {
    let id = id_in(&one.id, CERTAIN_DIGITS)?;
    let answer = ask(Method::DELETE, &id, "", client).await?;
    let explained = answer.read::<Explained>()?;
    if explained.unsynced { Err(CliError::EndedHere(explained.session.view.session)) } else { Ok(answer) }
}

pub(super) async fn extend<'c>(one: &One, client: &'c AdminClient) -> Result<Reply<'c>, CliError> {
    ask(Method::POST, &id_in(&one.id, CERTAIN_DIGITS)?, "/extend", client).await
}

/// A session id, or its first digits. What is neither may be a token: it is not repeated, nor sent.
fn id_in(text: &str, digits: usize) -> Result<String, CliError> {
    let is_id = (digits..=ID_DIGITS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id { Ok(text.to_ascii_lowercase()) } else { Err(CliError::NoId) }
}

async fn ask<'c>(method: Method, id: &str, more: &str, client: &'c AdminClient) -> Result<Reply<'c>, CliError> {
    let answered = client.ask(method, &format!("/sessions/{id}{more}"), String::new()).await;
    answered.map_err(|error| match error {
        CliError::Refused(refusal) if refusal.status == StatusCode::NOT_FOUND => {
            CliError::Unknown(id.to_owned(), refusal)
        }
        error => error,
    })
}
