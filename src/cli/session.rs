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

/// Arguments of `idlegate explain`.
#[derive(Debug, clap::Args)]
pub struct Explaining {
    /// The session id, as the log shows it, or its first 4 or more digits. Never the token.
    #[arg(required_unless_present = "token_stdin")]
    id: Option<String>,
    /// Read a token from standard input and explain its session. No command takes a token as an argument, because it
    /// would stay in the shell's history and be visible in the process list. The session id is computed locally with
    /// the configuration's `store.secret`; the token is not sent anywhere.
    #[arg(long, conflicts_with = "id")]
    token_stdin: bool,
    #[command(flatten)]
    pub(super) at: At,
}

/// Arguments of `idlegate sessions`.
#[derive(Debug, clap::Args)]
pub struct Listing {
    /// Only sessions that have been idle for at least this time, such as `30m`.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    idle_over: Option<Duration>,
    /// Show the table again every second, until Ctrl-C.
    #[arg(long, conflicts_with = "json")]
    pub(super) watch: bool,
    #[command(flatten)]
    pub(super) at: At,
}

/// Arguments of `idlegate end` and `idlegate extend`.
#[derive(Debug, clap::Args)]
pub struct One {
    /// The session id, as the log shows it, or its first 8 or more digits. Never the token.
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
    // Browsers show a token as it is sent, which may be percent-encoded or quoted.
    let mut result = Err(CliError::Empty);
    for token in token::pasted(&pasted) {
        result = ask(Method::GET, &token.session_id(ids).to_string(), "", client).await;
        if !matches!(&result, Err(CliError::Unknown(..))) {
            break;
        }
    }
    result
}

pub(super) async fn list<'c>(listing: &Listing, client: &'c AdminClient) -> Result<Reply<'c>, CliError> {
    let idle_over = listing.idle_over.map_or(0, |idle| idle.as_secs());
    client.send(Method::GET, &format!("/sessions?idle_over={idle_over}"), String::new()).await
}

pub(super) async fn end<'c>(one: &One, client: &'c AdminClient) -> Result<Reply<'c>, CliError> {
    let id = id_in(&one.id, CERTAIN_DIGITS)?;
    let reply = ask(Method::DELETE, &id, "", client).await?;
    let explained = reply.read::<Explained>()?;
    if explained.unsynced { Err(CliError::EndedHere(explained.session.view.session)) } else { Ok(reply) }
}

pub(super) async fn extend<'c>(one: &One, client: &'c AdminClient) -> Result<Reply<'c>, CliError> {
    ask(Method::POST, &id_in(&one.id, CERTAIN_DIGITS)?, "/extend", client).await
}

/// A session id or a prefix of one. Anything else may be a token, so it is neither printed nor sent.
fn id_in(text: &str, digits: usize) -> Result<String, CliError> {
    let is_id = (digits..=ID_DIGITS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id { Ok(text.to_ascii_lowercase()) } else { Err(CliError::NoId) }
}

async fn ask<'c>(method: Method, id: &str, more: &str, client: &'c AdminClient) -> Result<Reply<'c>, CliError> {
    let result = client.send(method, &format!("/sessions/{id}{more}"), String::new()).await;
    result.map_err(|error| match error {
        CliError::Refused(refusal) if refusal.status == StatusCode::NOT_FOUND => {
            CliError::Unknown(id.to_owned(), refusal)
        }
        error => error,
    })
}
