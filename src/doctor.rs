//! `idlegate doctor`: whether what idlegate stands on is sound, and what to do where it is not.

use crate::clock::{Clock, boot_id, epoch_milliseconds};
use crate::config::Config;
use crate::finding::Finding;
use crate::store::{FileStore, RedisStore, StoreSettings};
use crate::stream::Stream;

/// Looks at the app and the store.
pub async fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = vec![app(config).await];
    match &config.store {
        StoreSettings::Memory => findings.push(Finding::Note(
            "sessions are kept in memory: a restart forgets them, and a second replica would not see these sessions; for \
             that: store.url".to_owned(),
        )),
        StoreSettings::File(path) => {
            findings.push(match FileStore::open(path, config.idle, Clock::system(), epoch_milliseconds(), boot_id()) {
                Ok(_) => Finding::Good(format!("the store {} can be opened", path.display())),
                Err(error) => Finding::wrong(error.to_string(), "stop idlegate first if it is its own"),
            });
        }
        StoreSettings::Redis(settings) => match RedisStore::new(settings.clone(), config.idle, Clock::system()) {
            Ok(store) => findings.extend(store.examine().await),
            Err(error) => findings.push(Finding::wrong(error.to_string(), "mend [store]")),
        },
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
