"""Autoscaling of deploy/kubernetes, and the metrics that it reads."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from slowpool.observe.metrics import Metrics
from slowpool.workers.pool import worker_count
from tests.support.certificate import needs_openssl
from tests.support.kubernetes import (
    ALTERNATIVE,
    DEV,
    FOLDER,
    INSTANCES,
    PODS,
    PRODUCTION,
    VARIANTS,
    Json,
    Pod,
    config_of,
    named,
    one_of,
)

PROMTOOL = shutil.which("promtool")

pytestmark = [pytest.mark.usefixtures("nothing_set"), needs_openssl]
every_variant = pytest.mark.parametrize("variant", VARIANTS)


@every_variant
def test_no_pool_has_two_that_scale_it(rendered: dict[str, list[Json]], variant: str) -> None:
    scaled = [
        one["spec"]["scaleTargetRef"]["name"]
        for one in rendered[variant]
        if one["kind"] in ("HorizontalPodAutoscaler", "ScaledObject")
    ]
    assert sorted(scaled) == ([] if variant == DEV else ["fast", "slow"])
    for name in scaled:  # which apply would otherwise put back each time
        assert "replicas" not in named(rendered[variant], "Deployment", name)["spec"]
    assert named(rendered[variant], "Deployment", "nginx")["spec"].get("replicas", 1) == (
        1 if variant == DEV else 2
    )


def test_both_ways_to_scale_the_slow_pool_ask_for_a_job_a_worker(rendered: dict[str, list[Json]]) -> None:
    config = config_of(Pod.of(rendered[PRODUCTION], "slow").environment)
    workers = str(config.slow_processes * worker_count(config))
    ((metric,),) = [
        one["spec"]["metrics"]
        for one in rendered[PRODUCTION]
        if one["kind"] == "HorizontalPodAutoscaler" and one["metadata"]["name"] == "slow"
    ]
    assert metric["pods"]["target"] == {"type": "AverageValue", "averageValue": workers}
    adapter = yaml.safe_load((FOLDER / "prometheus-adapter.yaml").read_text())
    (rule,) = adapter["rules"]["custom"]
    assert rule["name"]["as"] == metric["pods"]["metric"]["name"]

    (trigger,) = one_of(rendered[ALTERNATIVE], "ScaledObject")["spec"]["triggers"]
    assert (trigger["type"], trigger["metadata"]["threshold"]) == ("prometheus", workers)
    namespace = one_of(rendered[ALTERNATIVE], "Namespace")["metadata"]["name"]
    assert set(re.findall(r'namespace="(.*?)"', trigger["metadata"]["query"])) == {namespace}
    assert (
        trigger["metadata"]["serverAddress"]
        == f"{adapter['prometheus']['url']}:{adapter['prometheus']['port']}"
    )

    known = {metric.name for metric in Metrics().registry.collect()}
    for query in (rule["metricsQuery"], trigger["metadata"]["query"]):
        assert set(re.findall(r"slow_\w+", query)) == {"slow_jobs_waiting", "slow_jobs_running"} <= known


@every_variant
def test_prometheus_finds_each_instance_and_nginx_and_calls_the_job_by_its_component(
    rendered: dict[str, list[Json]], variant: str
) -> None:
    found = {}
    for job in yaml.safe_load((FOLDER / "prometheus.yaml").read_text())["scrape_configs"]:
        keep, *labels = job["relabel_configs"]
        found[job["metrics_path"]] = [
            (pod.labels["app.kubernetes.io/component"], port["containerPort"])
            for pod in (Pod.of(rendered[variant], name) for name in PODS)
            for port in pod.main["ports"]
            if re.fullmatch(keep["regex"], f"{pod.labels['app.kubernetes.io/name']};{port['name']}")
        ]
        assert {label["target_label"]: label["source_labels"] for label in labels} == {
            "job": ["__meta_kubernetes_pod_label_app_kubernetes_io_component"],
            "namespace": ["__meta_kubernetes_namespace"],
            "pod": ["__meta_kubernetes_pod_name"],
        }
    nginx = [("nginx", 8081)] if variant == ALTERNATIVE else []
    assert found == {"/-/metrics": INSTANCES, "/status/edge": nginx}


@pytest.mark.skipif(not PROMTOOL, reason="there is no promtool; install it: apt install prometheus")
def test_promtool_finds_nothing_wrong_with_the_scrape_configuration(tmp_path: Path) -> None:
    assert PROMTOOL
    parsed = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())
    for job in parsed["scrape_configs"]:
        # Debian's Prometheus is built without it.
        assert job.pop("kubernetes_sd_configs") == [{"role": "pod"}]
    file = tmp_path / "prometheus.yml"
    file.write_text(yaml.safe_dump(parsed))
    done = subprocess.run([PROMTOOL, "check", "config", file], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
