//! What `deploy/` and the manual say of metrics, held against those of the binary.

use crate::harness::{Fake, MANUAL, Query, Request, Scrape, Wire};
use std::collections::{BTreeMap, BTreeSet};

const GUIDE: &str = include_str!("../../deploy/README.md");
const SIDECAR: &str = include_str!("../../deploy/kubernetes/sidecar/sidecar.yaml");

async fn app(_: usize, mut wire: Wire) {
    wire.head().await;
    wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
}

async fn scrape() -> Scrape {
    let app = Fake::start(app).await;
    // Rules have series of their own.
    let proxy = crate::http::plain_with(&app.upstream(), &[("IDLEGATE_ACTIVITY_IGNORE", "socket.io")]);
    // Durations of requests have series from the first request on.
    assert_eq!(Request::get(proxy.address, "/").send().await.status, 200);
    proxy.scrape().await
}

/// A series: its name, and its labels.
fn parts(series: &str) -> (&str, BTreeMap<&str, &str>) {
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let labels = labels.trim_end_matches('}').split(',').filter_map(|label| label.split_once('='));
    (name, labels.map(|(label, value)| (label, value.trim_matches('"'))).collect())
}

/// The metric that a series belongs to, by its name in queries: without what a histogram adds to it.
fn metric<'s>(name: &'s str, scrape: &Scrape) -> &'s str {
    let added = ["_bucket", "_count", "_sum"].iter().find_map(|added| name.strip_suffix(added));
    added.filter(|name| scrape.types.get(*name).is_some_and(|kind| kind == "histogram")).unwrap_or(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_finds_something_and_every_metric_is_on_the_dashboard() {
    let scrape = scrape().await;
    let (alerts, dashboard) = (Query::all_of("alerts.yaml"), Query::all_of("dashboard.json"));
    assert!(alerts.len() >= 10 && dashboard.len() >= 25, "{} and {}", alerts.len(), dashboard.len());
    for query in alerts.iter().chain(&dashboard) {
        assert!(!query.series.is_empty(), "{query:#?}");
        for (name, labels) in &query.series {
            let found = scrape.values.keys().map(|series| parts(series)).any(|(found, values)| {
                let has = |(label, value): (&String, &String)| {
                    // Prometheus adds the instance; the rest is ours.
                    label == "instance" || values.get(&label[..]) == Some(&&value[..])
                };
                found == name && labels.iter().all(has)
            });
            assert!(found, "no {name} {labels:?} in /metrics: {}: {}", query.place, query.text);
        }
    }
    let shown: BTreeSet<_> =
        dashboard.iter().flat_map(|query| &query.series).map(|(name, _)| metric(name, &scrape)).collect();
    let there: BTreeSet<_> = scrape.values.keys().map(|series| metric(parts(series).0, &scrape)).collect();
    assert_eq!(shown, there, "on the dashboard, and in /metrics");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_of_metrics_is_complete() {
    let scrape = scrape().await;
    let mut there = BTreeMap::new();
    for (name, labels) in scrape.values.keys().map(|series| parts(series)) {
        let name = metric(name, &scrape);
        let family = name.strip_suffix("_total").unwrap_or(name);
        // `le` is every histogram's.
        let labels: BTreeSet<_> = labels.into_keys().filter(|label| *label != "le").collect();
        there.entry(name).or_insert((scrape.types[family].as_str(), BTreeSet::new())).1.extend(labels);
    }
    let rows = MANUAL.lines().filter(|line| line.starts_with("| `idlegate_"));
    let table: BTreeMap<_, _> = rows
        .map(|row| {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            let labels = cells[3].split(", ").map(|label| label.trim_matches('`')).filter(|label| !label.is_empty());
            (cells[1].trim_matches('`'), (cells[2], labels.collect::<BTreeSet<_>>()))
        })
        .collect();
    assert_eq!(table, there, "in the manual, and in /metrics");
}

#[test]
fn every_alert_is_in_the_guide() {
    let alerts: BTreeSet<_> = Query::all_of("alerts.yaml").into_iter().map(|query| query.place).collect();
    let rows = GUIDE.lines().filter(|line| line.starts_with("| `Idlegate"));
    let named: BTreeSet<_> = rows.flat_map(|row| row.split('`').filter(|text| text.starts_with("Idlegate"))).collect();
    assert_eq!(named, alerts.iter().map(String::as_str).collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_probes_of_the_sidecar_are_answered() {
    // Where there are no sessions: neither the app nor Redis matters.
    let proxy = crate::http::plain("http://127.0.0.1:9");
    let probes: Vec<_> =
        SIDECAR.split("httpGet: { path: ").skip(1).map(|rest| rest.split(',').next().unwrap()).collect();
    assert_eq!(probes, ["/readyz", "/readyz", "/healthz"]);
    for path in probes {
        assert_eq!(Request::get(proxy.health(), path).send().await.status, 200, "{path}");
    }
}
