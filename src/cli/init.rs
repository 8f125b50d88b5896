//! `idlegate init`: writes a configuration to begin with, for one of the apps in `examples/`.

use crate::config::PRESETS;
use clap::builder::PossibleValuesParser;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::{error, fmt};

/// An app, and the configuration for it.
type Example = (&'static str, &'static str);

/// The examples, in files of the same names.
macro_rules! examples {
    ($($name:literal)*) => { &[$(($name, include_str!(concat!("../../examples/", $name, ".toml")))),*] };
}

const EXAMPLES: &[Example] = examples! {
    "generic" "django" "flask" "laravel" "rails" "express" "jupyterlab" "jupyterhub" "code-server" "streamlit" "gradio"
    "nicegui" "marimo" "dash" "panel" "node-red" "cockpit" "home-assistant" "phpmyadmin" "pgadmin" "grafana"
};

/// The configuration that is shipped as `proxy.toml`.
const CLASSROOM: Example = ("classroom", include_str!("../../proxy.toml"));

fn all() -> impl Iterator<Item = Example> {
    EXAMPLES.iter().copied().chain([CLASSROOM])
}

fn names() -> PossibleValuesParser {
    all().map(|(name, _)| name).collect::<Vec<_>>().into()
}

/// Arguments of `idlegate init`.
#[derive(Debug, clap::Args)]
pub struct Initializing {
    /// The app that idlegate will be put in front of.
    #[arg(default_value = "generic", value_parser = names(), hide_possible_values = true)]
    app: String,
    /// Where to write the configuration. `-` is standard output.
    #[arg(long, value_name = "PATH", default_value = "proxy.toml")]
    output: PathBuf,
    /// Replace a file that exists.
    #[arg(long)]
    force: bool,
    /// List the apps, and which version each was tried with.
    #[arg(long)]
    list: bool,
    /// Print the rules of the presets of `activity.ignore`.
    #[arg(long, conflicts_with = "list")]
    presets: bool,
}

/// Why no configuration was written.
#[derive(Debug)]
pub enum InitError {
    /// The file exists.
    Exists(PathBuf),
    /// The file cannot be written.
    Write(PathBuf, io::Error),
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists(path) => write!(
                f,
                "{} exists, and was not changed; write another file with --output PATH, or replace this one with --force",
                path.display()
            ),
            Self::Write(path, error) => {
                write!(
                    f,
                    "cannot write {}: {error}; write another file with --output PATH, or print it with --output -",
                    path.display()
                )
            }
        }
    }
}

impl error::Error for InitError {}

/// Writes the configuration of an app, or lists the apps. Returns the text to print.
///
/// # Errors
/// The file exists, or cannot be written.
pub fn init(initializing: &Initializing) -> Result<String, InitError> {
    let Initializing { app, output, force, list, presets } = initializing;
    if *presets {
        return Ok(PRESETS.to_owned());
    }
    if *list {
        return Ok(table());
    }
    // The parser admits these names only.
    let (name, text) = all().find(|(name, _)| name == app).unwrap_or(EXAMPLES[0]);
    if output == Path::new("-") {
        return Ok(text.to_owned());
    }
    write(text, output, *force)?;
    let path = output.display();
    Ok(format!(
        "{path}: written for {name} ({}). Its comments say what does not hold yet.\n\
         Next: set `upstream` and the names in [[token]], then `idlegate check --config {path}` and `idlegate --config {path}`\n",
        tried(text)
    ))
}

fn write(text: &str, path: &Path, force: bool) -> Result<(), InitError> {
    let mut options = File::options();
    // `create_new` also refuses a link that leads nowhere.
    let options = if force { options.create(true).truncate(true) } else { options.create_new(true) };
    let written = options.write(true).open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => InitError::Exists(path.to_owned()),
        _ => InitError::Write(path.to_owned(), error),
    })
}

/// The apps, one per line.
fn table() -> String {
    let row = |app: &str, tried: &str, what: &str| format!("{app:<14}  {tried:<34}  {what}\n");
    let mut table = row("APP", "TRIED WITH", "WHAT IT IS");
    for (name, text) in all() {
        let tried = tried(text);
        let tried = tried.strip_prefix("tried with ").unwrap_or(if name == "generic" { "" } else { &tried });
        let what = what(text).to_owned() + if is_incomplete(text) { "; not complete, see its comments" } else { "" };
        table += &row(name, tried, &what);
    }
    table
}

/// Whether sessions of the app do not always end on time, or stay ended, with this configuration.
fn is_incomplete(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("# Waits for a later version") || line.starts_with("# [[ignore]]: "))
}

/// Which version a configuration was tried with, by its first line: `# Tried with: …` or `# Not tried: …`.
fn tried(text: &str) -> String {
    let version = text.lines().next().and_then(|line| line.strip_prefix("# Tried with: "));
    version.map_or_else(|| "not tried".to_owned(), |version| format!("tried with {version}"))
}

/// What the app is, by the second line: `# idlegate in front of …`.
fn what(text: &str) -> &str {
    let line = text.lines().nth(1).and_then(|line| line.strip_prefix("# idlegate in front of "));
    line.unwrap_or_default().trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Variables, warnings};

    #[test]
    fn each_example_is_valid_and_says_what_it_was_tried_with() {
        for (name, text) in all() {
            let config = Config::parse(text, name, &Variables::default());
            let config = config.unwrap_or_else(|problems| panic!("{problems}"));
            // What idlegate would warn of is no example.
            assert!(name == "classroom" || warnings(&config).is_empty(), "{name}: {:?}", warnings(&config));
            let first = text.lines().next().unwrap();
            let forms = ["# Tried with: ", "# Not tried: "];
            assert!(forms.iter().any(|form| first.strip_prefix(form).is_some_and(|rest| !rest.is_empty())), "{name}");
            assert!(!what(text).is_empty(), "{name}: {:?}", text.lines().nth(1));
        }
    }

    #[test]
    fn each_file_of_the_examples_is_offered() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        files.sort();
        let mut offered: Vec<_> = EXAMPLES.iter().map(|(name, _)| *name).collect();
        offered.sort_unstable();
        assert_eq!(files, offered);
    }
}
