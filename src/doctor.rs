//! `idlegate doctor` checks what idlegate depends on, and says how to fix what is wrong.

use crate::address::AdminListen;
use crate::admin::json::{Modes, Warnings};
use crate::cli;
use crate::clock::{Clock, boot_id, epoch_milliseconds};
use crate::config::Config;
use crate::finding::Finding;
use crate::registry::unissued_tokens;
use crate::store::{FileStore, RedisStore, StoreSettings};
use crate::stream::Stream;
use crate::token_changes::changing_tokens;

/// Looks at the app, the running idlegate and the store.
pub async fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = vec![app(config).await];
    let mut is_running = false;
    if let Some(admin) = &config.admin {
        match cli::ask_running(admin).await {
            Ok(modes) => {
                is_running = true;
                findings.extend(running(admin, &modes));
            }
            Err(error) => findings.push(Finding::Note(format!("the running idlegate was not asked: {error}"))),
        }
    }
    match &config.store {
        StoreSettings::Memory => findings.push(Finding::Note(
            "sessions are kept in memory: a restart forgets them, and a second replica would not see these sessions; \
             to change that, set store.url"
                .to_owned(),
        )),
        StoreSettings::File(path) => {
            let path_shown = path.display();
            findings.push(match FileStore::open(path, config.idle, Clock::system(), epoch_milliseconds(), boot_id()) {
                Ok(_) => Finding::Good(format!("the store {path_shown} can be opened")),
                Err(error) if is_running && error.is_in_use() => {
                    Finding::Good(format!("the store {path_shown} is in use by the running idlegate"))
                }
                Err(error) => Finding::wrong(error.to_string(), "if idlegate itself uses it, stop idlegate first"),
            });
        }
        StoreSettings::Redis(settings) => match RedisStore::new(settings.clone(), config.idle, Clock::system()) {
            Ok(store) => findings.extend(store.examine().await),
            Err(error) => findings.push(Finding::wrong(error.to_string(), "correct [store]")),
        },
    }
    findings
}

/// What the running idlegate reports about itself.
fn running(admin: &AdminListen, modes: &Modes) -> Vec<Finding> {
    let Warnings { changing, unissued, no_match, .. } = &modes.warnings;
    let mut findings = vec![Finding::Good(format!("idlegate runs at {}, mode {}", admin.listen, modes.mode))];
    if let Some(no_match) = no_match {
        findings
            .push(Finding::wrong(no_match.to_string(), "compare `from`, `name` and `paths` of the [[token]] rules"));
    }
    if !unissued.is_empty() {
        let fix = "add a rule for where the app issues the token, or set unknown = \"admit\"";
        findings.push(Finding::wrong(unissued_tokens(unissued), fix));
    }
    if !changing.is_empty() {
        findings.push(Finding::wrong(changing_tokens(changing), "name a token that stays the same"));
    }
    findings
}

async fn app(config: &Config) -> Finding {
    match Stream::connect(&config.upstream, config.reloadable.connect_timeout).await {
        Ok(_) => Finding::Good(format!("the app accepts connections at {}", config.upstream)),
        Err(error) => Finding::wrong(
            format!("the app at {} does not accept connections ({error})", config.upstream),
            "start it, or correct `upstream`",
        ),
    }
}
