//! What `/metrics` says, and what is asked of it.

use super::app::python;
use super::{Idlegate, Request};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// A scrape, as Prometheus' own parser reads it.
#[derive(Debug)]
pub struct Scrape {
    /// The types of the metrics, by their names.
    pub types: BTreeMap<String, String>,
    /// The values, by name and labels: `idlegate_mode{mode="off"}`.
    pub values: BTreeMap<String, f64>,
}

fn script(name: &str) -> Command {
    let mut command = Command::new(python());
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/metrics").join(name));
    command
}

fn printed(output: &std::process::Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

impl Scrape {
    pub fn parse(text: &str) -> Self {
        let mut child = script("scrape.py").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let families = printed(&child.wait_with_output().unwrap());
        let (mut types, mut values) = (BTreeMap::new(), BTreeMap::new());
        for family in families.as_array().unwrap() {
            let text = |key: &str| family[key].as_str().unwrap().to_owned();
            types.insert(text("name"), text("type"));
            for sample in family["samples"].as_array().unwrap() {
                let labels: Vec<_> = sample[1].as_object().unwrap().iter().map(|(k, v)| format!("{k}={v}")).collect();
                let name = sample[0].as_str().unwrap();
                let key = if labels.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", labels.join(",")) };
                let before = values.insert(key, sample[2].as_str().unwrap().parse().unwrap());
                assert!(before.is_none(), "{sample} twice");
            }
        }
        Self { types, values }
    }

    /// The value of a series. Where there is none, that fails the test.
    pub fn value(&self, series: &str) -> f64 {
        *self.values.get(series).unwrap_or_else(|| panic!("no {series} in {:#?}", self.values))
    }

    /// The sum of all series of a name.
    pub fn sum(&self, name: &str) -> f64 {
        let named = |key: &str| key.split('{').next() == Some(name);
        self.values.iter().filter(|(key, _)| named(key)).map(|(_, value)| value).sum()
    }
}

impl Idlegate {
    /// What `/metrics` says, as it stands there.
    pub async fn metrics(&self) -> String {
        let answer = Request::get(self.health(), "/metrics").send().await;
        assert_eq!(answer.status, 200, "{answer:?}");
        String::from_utf8(answer.body.to_vec()).unwrap()
    }

    /// What `/metrics` says, parsed.
    pub async fn scrape(&self) -> Scrape {
        Scrape::parse(&self.metrics().await)
    }

    /// Whether this line stands in `/metrics`.
    pub async fn shows(&self, line: &str) -> bool {
        self.metrics().await.lines().any(|found| found == line)
    }
}

/// A query of a file in `deploy/`.
#[derive(Debug)]
pub struct Query {
    /// The alert, or the panel.
    pub place: String,
    pub text: String,
    /// The series it names: a metric, and the labels asked for.
    pub series: Vec<(String, BTreeMap<String, String>)>,
}

impl Query {
    /// All that are in the file.
    pub fn all_of(name: &str) -> Vec<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name);
        let queries = printed(&script("queries.py").arg(path).output().unwrap());
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let labels = |value: &Value| value.as_object().unwrap().iter().map(|(k, v)| (k.clone(), text(v))).collect();
        let series = |value: &Value| (text(&value["name"]), labels(&value["labels"]));
        let query = |value: &Value| Self {
            place: text(&value["where"]),
            text: text(&value["query"]),
            series: value["series"].as_array().unwrap().iter().map(series).collect(),
        };
        queries.as_array().unwrap().iter().map(query).collect()
    }
}
