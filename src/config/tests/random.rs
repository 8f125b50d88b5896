//! No input causes a panic, and every refused input has an error with a fix.

use super::*;
use proptest::prelude::*;
use proptest::sample::Index;

const SHIPPED: &str = include_str!("../../../proxy.toml");

/// One mistake: text removed, text inserted, or a line repeated.
#[derive(Clone, Debug)]
enum Mistake {
    Remove(Index, usize),
    Insert(Index, String),
    Repeat(Index),
    Drop(Index),
}

fn mistake() -> impl Strategy<Value = Mistake> {
    let piece = prop_oneof![
        "[\\[\\]{}\"'=.,#\n0-9a-z/:~é -]{1,6}",
        proptest::sample::select(vec![
            "[[",
            "]]",
            "\"\"\"",
            "'''",
            "= 7",
            "= []",
            "= {}",
            "[idle]",
            "\\",
            "\0",
            "1e999",
            "99999999999999999999",
            "nan",
            "µs",
            "\r"
        ])
        .prop_map(str::to_owned),
        any::<char>().prop_map(String::from),
    ];
    prop_oneof![
        (any::<Index>(), 1..40_usize).prop_map(|(at, count)| Mistake::Remove(at, count)),
        (any::<Index>(), piece).prop_map(|(at, text)| Mistake::Insert(at, text)),
        any::<Index>().prop_map(Mistake::Repeat),
        any::<Index>().prop_map(Mistake::Drop),
    ]
}

fn with_mistakes(mistakes: &[Mistake]) -> String {
    // Without comments, so that most mistakes hit a value.
    let mut text: String = SHIPPED.split_inclusive('\n').filter(|line| !line.starts_with('#')).collect();
    for mistake in mistakes {
        let mut characters: Vec<char> = text.chars().collect();
        let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
        text = match mistake {
            Mistake::Remove(at, count) => {
                let at = at.index(characters.len() + 1);
                let end = (at + count).min(characters.len());
                characters.drain(at..end);
                characters.into_iter().collect()
            }
            Mistake::Insert(at, piece) => {
                let at = at.index(characters.len() + 1);
                characters.splice(at..at, piece.chars());
                characters.into_iter().collect()
            }
            Mistake::Repeat(at) if !lines.is_empty() => {
                let at = at.index(lines.len());
                lines.insert(at, lines[at]);
                lines.concat()
            }
            Mistake::Drop(at) if !lines.is_empty() => {
                lines.remove(at.index(lines.len()));
                lines.concat()
            }
            Mistake::Repeat(_) | Mistake::Drop(_) => text,
        };
    }
    text
}

fn is_explained(outcome: Result<Config, Problems>) {
    if let Err(problems) = outcome {
        assert!(problems.iter().count() > 0);
        for problem in problems.iter() {
            assert!(!problem.fault.what.is_empty() && !problem.fault.fix.is_empty(), "{problem}");
            assert_eq!(problem.to_string().lines().count(), 1, "{problem}");
        }
    }
}

proptest! {
    #[test]
    fn mistakes_in_the_file_are_explained(mistakes in proptest::collection::vec(mistake(), 1..6)) {
        is_explained(Config::parse(&with_mistakes(&mistakes), "proxy.toml", &Variables::default()));
    }

    #[test]
    fn any_text_is_explained(text in ".{0,200}") {
        is_explained(Config::parse(&text, "proxy.toml", &Variables::default()));
    }

    #[test]
    fn any_environment_is_explained(
        name in "(LISTEN|UPSTREAM|DENY|IDLE|IDLE_TIMEOUT|MAX_SESSIONS|TOKEN|TOKEN_[0-9]_(FROM|PATHS|WHEN)|TOKEN_|CUT_HTTP_HEADERS|CUT_LOGIN_URL|[A-Z_0-9]{0,12})",
        value in prop_oneof![".{0,40}", "[\\[{][\\[\\]{}\",=a-z0-9 ]{0,20}", "(http://|unix:)[\\[\\]:/a-z0-9@]{0,12}", "[0-9a-zµ. ]{0,30}"],
    ) {
        is_explained(Config::parse(SHIPPED, "proxy.toml", &Variables::from_iter([(format!("IDLEGATE_{name}"), value)])));
    }
}
