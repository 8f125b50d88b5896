//! `idlegate run`: from a file, or in the short form from arguments alone.
//!
//! The short form is written out as the text of a configuration, which is parsed like any file. `--print-config` prints
//! that text, so it cannot differ from what runs.

use crate::config::{Config, Problems, Summary, Variables};
use std::path::PathBuf;
use toml::Value;

/// Problems of the short form are reported under this name, with the line of the printed configuration.
const NAME: &str = "idlegate run";

/// Arguments of `idlegate run`.
#[derive(Debug, Default, clap::Args)]
pub struct Starting {
    /// The configuration file [default: `IDLEGATE_CONFIG`, or proxy.toml].
    #[arg(long, conflicts_with = "upstream")]
    config: Option<PathBuf>,
    #[command(flatten)]
    short: ShortForm,
}

/// The arguments that stand for a file.
#[derive(Debug, Default, clap::Args)]
#[command(group(clap::ArgGroup::new("rule").multiple(true)))]
struct ShortForm {
    /// Run without a file, in front of the app at this address: `http://127.0.0.1:8000` or `unix:/run/app.sock`. It needs
    /// one of --cookie, --bearer and --header as well.
    #[arg(long, value_name = "URL", requires = "rule")]
    upstream: Option<String>,
    /// The name of the app's session cookie. May be repeated.
    #[arg(long, value_name = "NAME", group = "rule", requires = "upstream")]
    cookie: Vec<String>,
    /// The token is sent as `Authorization: Bearer …`.
    #[arg(long, group = "rule", requires = "upstream")]
    bearer: bool,
    /// The name of a header that carries the token. May be repeated.
    #[arg(long, value_name = "NAME", group = "rule", requires = "upstream")]
    header: Vec<String>,
    /// The idle timeout, such as `15m` [default: 1h].
    #[arg(long, value_name = "DURATION", requires = "upstream")]
    timeout: Option<String>,
    /// Where clients connect: an IP address and a port [default: 127.0.0.1:10086].
    #[arg(long, value_name = "ADDRESS", requires = "upstream")]
    listen: Option<String>,
    /// The path or URL that a page is redirected to when its session has ended.
    #[arg(long, value_name = "URL", requires = "upstream")]
    login_url: Option<String>,
    /// What counts as activity: `person` (only what a user causes) or `tab` (all traffic) [default: person].
    #[arg(long, value_name = "PROFILE", requires = "upstream")]
    profile: Option<String>,
    /// Print the configuration that these arguments stand for, and exit.
    #[arg(long, requires = "upstream")]
    print_config: bool,
}

impl Starting {
    /// Where the configuration is. `file` is the one to take if the arguments name none.
    #[must_use]
    pub fn source(self, file: PathBuf) -> Source {
        match self.short.text() {
            Some(text) => Source::Arguments(text),
            None => Source::File(self.config.unwrap_or(file)),
        }
    }

    /// Whether to print the configuration instead of running it.
    #[must_use]
    pub fn prints_config(&self) -> bool {
        self.short.print_config
    }
}

impl ShortForm {
    /// The configuration, if these arguments were used.
    fn text(&self) -> Option<String> {
        let upstream = quoted(self.upstream.as_deref()?);
        let value = |argument: &Option<String>, default| quoted(argument.as_deref().unwrap_or(default));
        let (listen, timeout) = (value(&self.listen, "127.0.0.1:10086"), value(&self.timeout, "1h"));
        let profile = value(&self.profile, "person");
        let bearer = self.bearer.then(|| "from = \"bearer\"".to_owned());
        let cookies = self.cookie.iter().map(|name| format!("from = \"cookie\"\nname = {}", quoted(name)));
        let headers = self.header.iter().map(|name| format!("from = \"header\"\nname = {}", quoted(name)));
        let mut rules = String::new();
        for rule in bearer.into_iter().chain(cookies).chain(headers) {
            rules.extend(["\n[[token]]\n", &rule, "\n"]);
        }
        let login_url = self
            .login_url
            .as_ref()
            .map_or("# login_url = \"/login\"".to_owned(), |url| format!("login_url = {}", quoted(url)));
        Some(format!(
            "# The configuration that the arguments of `idlegate run` stand for. Save it as proxy.toml to add to it, and start
# `idlegate` without arguments. An environment variable overrides its key: IDLEGATE_IDLE_TIMEOUT=30m.

# Where clients connect, and where the app listens. No client may reach the app but through idlegate.
listen = {listen}
upstream = {upstream}

[idle]
# A session ends once it has been idle for longer than this.
timeout = {timeout}

[store]
# Sessions live in this process: a restart forgets them. With \"redis://host:6379/0\" they survive it, and replicas share them.
url = \"memory\"

[activity]
# What counts as activity. \"person\": only what a user causes. \"tab\": all traffic, so an open tab keeps its session.
profile = {profile}

# What carries the token of a session.{rules}
[cut]
# Where a page is redirected when its session has ended. Programs get a 401.
{login_url}

# For `idlegate sessions`, `idlegate explain`, `idlegate mode` and the operators' page.
# [admin]
# listen = \"127.0.0.1:9090\"
"
        ))
    }
}

/// A TOML string.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// Where the configuration of `idlegate run` is.
#[derive(Clone, Debug)]
pub enum Source {
    /// In this file, which is followed for edits.
    File(PathBuf),
    /// In the arguments, which stand for this text.
    Arguments(String),
}

impl Source {
    /// Reads the configuration. `variables` override it.
    ///
    /// # Errors
    /// All problems, each with its position and fix.
    pub fn load(&self, variables: &Variables) -> Result<Config, Problems> {
        match self {
            Self::File(path) => Config::load(path, variables),
            Self::Arguments(text) => Config::parse(text, NAME, variables),
        }
    }

    /// What the log says at the start about the limits of the short form.
    #[must_use]
    pub fn limits(&self, summary: &Summary) -> Vec<&'static str> {
        let Self::Arguments(_) = self else { return Vec::new() };
        let mut limits =
            vec!["started without a file: --print-config prints the configuration, to be saved as proxy.toml"];
        if summary.store == "memory" {
            limits.push(
                "no Redis: sessions live in this process; a restart forgets them, and a second replica does not see them",
            );
        }
        if summary.profile == "tab" {
            limits.push("profile tab: an open tab keeps its session, also when its user has left");
        } else if summary.ignore_rules == 0 {
            limits.push(
                "no [[ignore]] rules: a page that polls by itself keeps its session, also when its user has left; \
                 idlegate doctor --watch finds them",
            );
        }
        limits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Run {
        #[command(flatten)]
        starting: Starting,
    }

    fn source(arguments: &[&str]) -> Result<Source, clap::Error> {
        let run = Run::try_parse_from([&["run"], arguments].concat())?;
        Ok(run.starting.source(PathBuf::from("proxy.toml")))
    }

    fn config(arguments: &[&str]) -> Result<Config, Problems> {
        source(arguments).unwrap().load(&Variables::default())
    }

    #[test]
    fn the_text_means_what_the_arguments_say() {
        let short = ["--upstream", "unix:/run/app.sock", "--cookie", "sid"];
        let defaults = config(&short).unwrap();
        assert_eq!((defaults.listen.port(), defaults.idle.timeout, defaults.tokens.len()), (10086, 3600, 1));
        assert_eq!(Summary::of(&defaults).profile, "person");
        let more = [
            "--cookie",
            "other",
            "--bearer",
            "--header",
            "x-token",
            "--listen",
            "[::1]:0",
            "--timeout",
            "15m",
            "--login-url",
            "/sign in?a=\"b\"",
            "--profile",
            "tab",
        ];
        let Err(problems) = config(&[&short[..], &more].concat()) else { panic!("a space is no part of a URL") };
        assert!(problems.to_string().contains("cut.login_url: "), "{problems}");
        let more = more.map(|argument| if argument.starts_with("/sign") { "/sign-in?a=b" } else { argument });
        let all = config(&[&short[..], &more].concat()).unwrap();
        let labels: Vec<_> = all.tokens.iter().map(|rule| format!("{:?}", rule.place)).collect();
        assert_eq!(labels, ["Bearer", "Cookie(\"sid\")", "Cookie(\"other\")", "Header(\"x-token\")"]);
        assert_eq!((all.listen.to_string().as_str(), all.idle.timeout), ("[::1]:0", 900));
        assert_eq!(all.reloadable.cut.idle.login_url.as_ref().unwrap(), "/sign-in?a=b");
        assert_eq!(Summary::of(&all).profile, "tab");
    }

    #[test]
    fn a_wrong_value_is_an_error_of_its_key_and_cannot_add_other_keys() {
        let base = ["--upstream", "http://127.0.0.1:1"];
        for (argument, value, key) in [
            ("--cookie", "a\"\n[admin]\nlisten = \"127.0.0.1:1", "token.0.name: "),
            ("--timeout", "soon", "idle.timeout: "),
            ("--listen", "8080", "listen: "),
            ("--profile", "robot", "activity.profile: "),
        ] {
            let arguments =
                [&base[..], &["--bearer"][..usize::from(argument != "--cookie")], &[argument, value]].concat();
            let Err(problems) = config(&arguments) else { panic!("{argument}") };
            let told = problems.to_string();
            assert!(told.starts_with("idlegate run:") && told.contains(key) && told.lines().count() == 1, "{told}");
        }
    }

    #[test]
    fn the_short_form_needs_an_app_and_a_token_and_takes_no_file() {
        assert!(matches!(source(&[]), Ok(Source::File(path)) if path.ends_with("proxy.toml")));
        assert!(matches!(source(&["--config", "a"]), Ok(Source::File(path)) if path.ends_with("a")));
        for wrong in [
            &["--upstream", "http://127.0.0.1:1"][..],
            &["--cookie", "sid"],
            &["--timeout", "15m"],
            &["--print-config"],
            &["--upstream", "http://127.0.0.1:1", "--bearer", "--config", "a"],
        ] {
            assert!(source(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_log_names_the_limits_that_apply() {
        let limits = |variables: &[(&str, &str)]| {
            let source = source(&["--upstream", "http://127.0.0.1:1", "--bearer"]).unwrap();
            let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            source.limits(&Summary::of(&source.load(&variables).unwrap())).join("|")
        };
        let told = limits(&[]);
        assert!(told.contains("no Redis") && told.contains("no [[ignore]] rules"), "{told}");
        let told = limits(&[("IDLEGATE_STORE_URL", "redis://127.0.0.1:1"), ("IDLEGATE_ACTIVITY_PROFILE", "tab")]);
        assert!(!told.contains("no Redis") && told.contains("profile tab"), "{told}");
        assert!(!limits(&[("IDLEGATE_ACTIVITY_IGNORE", "socket.io")]).contains("no [[ignore]] rules"));
        assert!(
            Source::File(PathBuf::new())
                .limits(&Summary::of(&config(&["--upstream", "http://127.0.0.1:1", "--bearer"]).unwrap()))
                .is_empty()
        );
    }
}
