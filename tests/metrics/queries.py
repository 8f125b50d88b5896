"""Finds the queries in a file of alert rules (YAML) or a dashboard (JSON), parses each as Prometheus would, and prints
them as JSON, with the series they name."""

import json
import sys

import promql_parser
import yaml


def of_rules(document):
    for group in document["groups"]:
        for rule in group["rules"]:
            assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}, rule
            assert rule["labels"]["severity"] in ("critical", "warning", "info"), rule
            assert rule["annotations"]["summary"] and rule["annotations"]["description"], rule
            if "for" in rule:
                promql_parser.parse_duration(rule["for"])
            yield rule["alert"], rule["expr"]


def of_dashboard(document):
    for panel in document["panels"]:
        assert panel["type"] == "row" or panel["targets"], panel
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for variable in document["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["definition"].removeprefix("label_values(").split(",")[0]


def series(expression):
    found = []

    def visit(node):
        if isinstance(node, promql_parser.VectorSelector):
            matchers = {matcher.name: matcher.value for matcher in node.matchers.matchers}
            found.append({"name": node.name, "labels": matchers})
        for part in ("lhs", "rhs", "expr", "args", "vector_selector", "param"):
            below = getattr(node, part, None)
            for one in below if isinstance(below, list) else [below]:
                if one is not None:
                    visit(one)

    visit(expression)
    return found


def main(path):
    with open(path, encoding="utf-8") as file:
        # JSON is YAML too.
        document = json.load(file) if path.endswith(".json") else yaml.safe_load(file)
    queries = []
    for where, query in of_dashboard(document) if "panels" in document else of_rules(document):
        # Grafana writes a range there.
        parsed = promql_parser.parse(query.replace("$__rate_interval", "5m"))
        queries.append({"where": where, "query": query, "series": series(parsed)})
    json.dump(queries, sys.stdout)


main(sys.argv[1])
