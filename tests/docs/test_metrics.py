"""The page of metrics, the dashboard, the alert rules and the mapping have the names and tags of the code."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import yaml  # type: ignore[import-untyped]

from airflow_provider_rayagent.metrics.names import METRICS, TEAM, VALUES
from tests.docs.conftest import PAGES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_rayagent.metrics.names import Metric

PAGE = (PAGES / "operations.md").read_text(encoding="utf-8")
OF_AIRFLOW = {"airflow_triggerer_heartbeat", "airflow_triggerer_capacity_left"}
"""Airflow's own metrics, as statsd_exporter names them."""
SUFFIX = "_bucket"
"""What Prometheus adds to the name of a histogram."""


def load(name: str) -> Any:
    """Return the content of a YAML or JSON file."""
    return yaml.safe_load((PAGES / name).read_text(encoding="utf-8"))


def rows(heading: str) -> Iterator[list[str]]:
    """Yield the cells of the rows of the page's table with this heading."""
    _, found, rest = PAGE.partition(f"\n{heading}\n")
    assert found
    for line in rest.splitlines()[1:]:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.strip("|").split(" | ")]


def codes(text: str) -> list[str]:
    """Return what a text has in backticks."""
    return re.findall(r"`([^`]+)`", text)


def prometheus_name(metric: Metric) -> str:
    """Return the name that the mapping gives a metric."""
    for each in load("statsd-mapping.yml")["mappings"]:
        pattern = each["match"] if each.get("match_type") == "regex" else re.escape(each["match"])
        if found := re.fullmatch(pattern, f"airflow.{metric.name}"):
            return str(each["name"]).replace("${1}", found.group(1) if found.groups() else "")
    raise AssertionError(f"no mapping for {metric.name}")


NAMES = {prometheus_name(metric): metric for metric in METRICS}


def names_in(text: str) -> set[str]:
    """Return the names of our metrics in an expression."""
    return {name.removesuffix(SUFFIX) for name in re.findall(r"\bairflow_rayagent_\w+", text)}


def assert_tags_exist(expression: str) -> None:
    """Fail if an expression has a label that its metric does not have."""
    tags = {tag for name in names_in(expression) for tag in NAMES[name].tags}
    labels = [label for group in re.findall(r"by \(([^)]+)\)", expression) for label in group.split(", ")]
    labels += re.findall(r"[{,]\s*(\w+)=", expression)
    assert labels
    assert set(labels) <= tags | {"le", TEAM}


def test_the_page_has_each_metric_with_its_type_and_tags() -> None:
    found = [(codes(row[0])[0], row[1], codes(row[2])) for row in rows("| Name | Type | Tags | Meaning |")]
    assert found == [(metric.name, metric.kind, list(metric.tags)) for metric in METRICS]


def test_the_page_has_each_value_of_the_tags() -> None:
    of_page = {row[0].strip("`"): set(codes(row[1])) for row in rows("| Tag | Values |")}
    for name, heading in (("mode", "mode"), ("status", "status")):
        assert set(VALUES[name]) <= of_page[heading]


def test_the_mapping_makes_counters_totals_and_timers_histograms_in_seconds() -> None:
    endings = {"counter": "_total", "timer": "_seconds", "gauge": ""}
    for name, metric in NAMES.items():
        assert name == "airflow_" + metric.name.replace(".", "_") + endings[metric.kind]


def test_the_dashboard_shows_each_metric_of_the_data_source_that_is_chosen() -> None:
    dashboard = load("grafana-dashboard.json")
    assert dashboard == json.loads((PAGES / "grafana-dashboard.json").read_text(encoding="utf-8"))
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    assert set().union(*map(names_in, expressions)) == set(NAMES)
    for expression in expressions:
        assert_tags_exist(expression)
    sources = [part["datasource"] for panel in panels for part in (panel, *panel["targets"])]
    variables = {each["name"]: each for each in dashboard["templating"]["list"]}
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == ("datasource", "prometheus")
    for name in ("conn_id", TEAM):
        assert {source["uid"] for source in (*sources, variables[name]["datasource"])} == {"${datasource}"}
        assert names_in(variables[name]["query"]) <= set(NAMES)
        assert all(f'{name}=~"${name}"' in expression for expression in expressions)


def test_the_alert_rules_use_metrics_and_values_that_exist_and_are_on_the_page() -> None:
    alerts = [rule for group in load("prometheus-alerts.yml")["groups"] for rule in group["rules"]]
    assert [codes(row[0]) for row in rows("| Alert | Condition | What to do |")] == [[each["alert"]] for each in alerts]
    for alert in alerts:
        assert set(alert) - {"for"} == {"alert", "expr", "labels", "annotations"}
        assert alert["labels"]["severity"] in ("critical", "warning")
        assert set(re.findall(r"\bairflow_\w+(?=[{\[)])", alert["expr"])) - OF_AIRFLOW <= {
            *NAMES,
            *(name + SUFFIX for name in NAMES),
        }
        if not any(name in alert["expr"] for name in OF_AIRFLOW):
            assert names_in(alert["expr"])
            assert_tags_exist(alert["expr"])
        assert set(re.findall(r'status="(\w+)"', alert["expr"])) <= set(VALUES["status"])
        assert alert["expr"].count("(") == alert["expr"].count(")")
        used = set(re.findall(r"\$labels\.(\w+)", alert["annotations"]["summary"]))
        assert used <= {label for group in re.findall(r"by \(([^)]+)\)", alert["expr"]) for label in group.split(", ")}
