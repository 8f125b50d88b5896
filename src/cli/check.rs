//! `idlegate check`: the configuration, with all problems and warnings.

use crate::config::{Config, Problems, Summary, Variables, in_pod, unshared, warnings};
use crate::counted::counted;
use std::path::Path;

/// The result of `idlegate check` as text or as one JSON object, and whether the configuration is valid.
///
/// # Errors
/// All problems, if they are not part of a JSON object.
pub fn check(path: &Path, variables: &Variables, json: bool) -> Result<(String, bool), Problems> {
    match Config::load(path, variables) {
        Ok(config) if json => {
            let checked = serde_json::json!({
                "valid": true,
                "listen": config.listen.to_string(),
                "summary": Summary::of(&config),
                "warnings": all_warnings(&config),
            });
            Ok((format!("{checked}\n"), true))
        }
        Ok(config) => {
            let Summary { mode, store, profile, limit, token_rules, .. } = Summary::of(&config);
            let rules = counted(token_rules, "token rule");
            let (file, listen) = (path.display(), config.listen);
            let mut text = format!(
                "{file}: valid; {rules}, limit {limit} s, listens on {listen}, mode {mode}, store {store}, \
                 profile {profile}\n"
            );
            for warning in all_warnings(&config) {
                text.extend(["warning: ", &warning, "\n"]);
            }
            Ok((text, true))
        }
        Err(problems) if json => {
            let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
            let checked = serde_json::json!({ "valid": false, "problems": problems });
            Ok((format!("{checked}\n"), false))
        }
        Err(problems) => Err(problems),
    }
}

fn all_warnings(config: &Config) -> Vec<String> {
    warnings(config).into_iter().chain(unshared(config, in_pod())).collect()
}
