"""Rules, scrape configuration and dashboard: as Prometheus reads them, and against a real answer."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from flts_assets.serving import metrics
from flts_assets.settings import PROJECT
from flts_assets.stores.directory import DirectoryStore
from flts_assets_tests.docker.containers import DOCKER, compose, filled_in
from flts_assets_tests.serving.deployed import application, promote

MONITORING = DOCKER / "monitoring"
RULES = MONITORING / "prometheus-rules.yaml"
DASHBOARD = MONITORING / "grafana-serving.json"
OF_PROMETHEUS_ITSELF = {"up"}
# A metric's name is a word with an underscore that is no label, no keyword and no variable of Grafana's.
NAME = re.compile(r"\b(?:flts|process)_[a-z_]+\b|\bup\b")


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


def targets() -> list[dict[str, Any]]:
    return [target for panel in dashboard()["panels"] for target in panel.get("targets", ())]


def expressions() -> list[str]:
    """The dashboard's PromQL, with Grafana's variables filled in."""
    found = [target["expr"] for target in targets() if "expr" in target]
    found += [one["expr"] for one in dashboard()["annotations"]["list"]]
    return [one.replace("$__rate_interval", "1m").replace("$job", "flts-serving") for one in found]


def promtool(*arguments: str) -> None:
    """Prometheus' own checks. Skips where it is not installed."""
    if shutil.which("promtool") is None:
        pytest.skip("no promtool on PATH; apt-get install prometheus")
    done = subprocess.run(
        ["promtool", *arguments], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names in a real answer of /metrics, of a container with a memory limit."""
    store = DirectoryStore(tmp_path_factory.mktemp("monitored"))
    promote(store, "TREES")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "memory_limit", lambda: 1 << 30)
        app = application(store)
    with TestClient(app) as client:
        client.get("/healthz")
        families = text_string_to_metric_families(client.get("/metrics").text)
        return {sample.name for family in families for sample in family.samples}


def test_every_metric_in_rules_and_dashboard_is_exposed(exposed: set[str]) -> None:
    used = {name for rule in rules() for name in NAME.findall(rule["expr"])}
    used |= {name for one in expressions() for name in NAME.findall(one)}
    assert len(used) > 12  # the pattern finds them
    assert used - exposed == OF_PROMETHEUS_ITSELF


def test_every_metric_of_the_service_is_looked_at_by_somebody(exposed: set[str]) -> None:
    shown = {name for one in expressions() for name in NAME.findall(one)}
    own = {name for name in exposed if name.startswith("flts_")}
    made_along = ("_created", "_sum", "_count")  # by the client library
    assert {name for name in own - shown if not name.endswith(made_along)} == set()


def test_rules_are_sound_to_prometheus() -> None:
    promtool("check", "rules", str(RULES))


def test_each_rule_alerts_when_it_should_and_not_otherwise() -> None:
    promtool("test", "rules", str(MONITORING / "prometheus-rules-test.yaml"))


def test_each_rule_has_a_test_of_both() -> None:
    wanted = {rule["alert"] for rule in rules()}
    cases = yaml.safe_load((MONITORING / "prometheus-rules-test.yaml").read_text())["tests"]
    sound, broken = (
        {one["alertname"] for one in case["alert_rule_test"] if ("exp_alerts" in one) == fires}
        for case, fires in ((cases[0], False), (cases[1], True))
    )
    assert sound == broken == wanted


def test_scrape_configuration_is_sound_to_prometheus() -> None:
    promtool("check", "config", str(MONITORING / "prometheus.yaml"))


def test_dashboard_is_sound_promql(tmp_path: Path) -> None:
    recorded = [
        {"record": f"panel:{number}", "expr": one} for number, one in enumerate(expressions())
    ]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))
    promtool("check", "rules", str(file))


def test_dashboard_names_no_place_of_ours() -> None:
    """Both sources are chosen where it is imported."""
    sources = {
        json.dumps(panel["datasource"]) for panel in dashboard()["panels"] if "datasource" in panel
    }
    uids = {json.loads(one)["uid"] for one in sources}
    assert uids == {"${prometheus}", "${dagster}"}
    variables = {one["name"]: one["type"] for one in dashboard()["templating"]["list"]}
    assert variables == {"prometheus": "datasource", "dagster": "datasource", "job": "query"}
    ids = [panel["id"] for panel in dashboard()["panels"]]
    assert len(set(ids)) == len(ids)


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert at["x"] + at["w"] <= 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells


def test_operations_tell_what_to_do_about_each_alert() -> None:
    told = (PROJECT / "docs" / "operations.md").read_text()
    assert {rule["alert"] for rule in rules() if f"`{rule['alert']}`" not in told} == set()


def test_prometheus_comes_with_a_profile(tmp_path: Path) -> None:
    done = compose(filled_in(tmp_path), "--profile", "monitoring", "config")
    assert done.returncode == 0, done.stderr
    found = yaml.safe_load(done.stdout)["services"]["prometheus"]
    assert [port["host_ip"] for port in found["ports"]] == ["127.0.0.1"]
    assert found["healthcheck"]["test"]
    assert {"cpus", "memory"} <= set(found["deploy"]["resources"]["limits"])
    (mounted,) = [one for one in found["volumes"] if one["type"] == "bind"]
    assert Path(mounted["source"]) == MONITORING
    assert mounted["read_only"]
    assert f"--config.file={mounted['target']}/prometheus.yaml" in found["command"]
