"""deploy/compose.yaml: compose accepts it, no service has many rights, and no password stands in an environment."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from app.node.shared_path import shared_path
from app.settings import Settings, load
from tests.system.nginx import NGINX
from tests.system.processes import ROOT

DEPLOY: Final = ROOT / "deploy"
FILE: Final = DEPLOY / "compose.yaml"
URL_OF_NODES: Final = "postgresql://klinenode:{}@postgres:5432/klinenode"
SECRET: Final = re.compile("password|token|secret|key", re.IGNORECASE)


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text())["services"]
    return found


def compose() -> list[str] | None:
    """How compose is called here; None if it is not installed."""
    if (docker := shutil.which("docker")) and not run([docker, "compose", "version"]).returncode:
        return [docker, "compose"]
    return [found] if (found := shutil.which("docker-compose")) else None


def run(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent", **environment}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=variables)


def test_compose_accepts_the_file() -> None:
    if (command := compose()) is None:
        pytest.skip("compose is not installed (apt-get install docker-compose)")
    verdict = run([*command, "-f", str(FILE), "--profile", "collector", "config"])
    assert verdict.returncode == 0, verdict.stderr
    merged = yaml.safe_load(verdict.stdout)
    assert set(merged["services"]) == set(services())


@pytest.mark.parametrize("name", services())
def test_a_service_has_few_rights_and_is_watched(name: str) -> None:
    service = services()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not str(service["user"]).startswith(("0", "root"))
    assert "privileged" not in service
    assert service["healthcheck"]["test"][0] == "CMD"
    for port in service.get("ports", ()):
        assert port.startswith("127.0.0.1:"), "open to the world by default"
    for variable in service.get("environment", {}):
        assert not SECRET.search(variable) or variable.endswith("_FILE"), f"{variable} stands in the environment"


def test_what_is_mounted_is_there_and_what_is_kept_has_a_volume() -> None:
    document = yaml.safe_load(FILE.read_text())
    for service in services().values():
        for mount in service.get("volumes", ()):
            source, _, target = mount.partition(":")
            assert target.startswith("/")
            if source.startswith("."):
                assert (DEPLOY / source).exists(), source
                assert target.endswith(":ro"), source
            else:
                assert source in document["volumes"]
        for secret in service.get("secrets", ()):
            assert secret in document["secrets"]


def test_the_nodes_have_settings_that_exist_and_share_what_one_machine_shares() -> None:
    nodes = [services()[name] for name in ("node-1", "node-2")]
    for node in nodes:
        assert {name.lower() for name in node["environment"]} <= set(Settings.model_fields)
        assert set(node["secrets"]) <= set(Settings.model_fields)
        assert node["environment"]["RUNTIME_DIR"] in node["volumes"][0]
        has_timescale = services()["postgres"]["image"].startswith("timescale/")
        chosen = load(node["environment"] | {"DB_URL": "postgresql://klinenode@postgres/klinenode"}, env_file=None)
        assert chosen.timescale is has_timescale
    assert nodes[0]["volumes"] == nodes[1]["volumes"]
    addresses = {node["networks"]["klinenode"]["ipv4_address"] for node in nodes}
    assert len(addresses) == 2
    assert all(address in " ".join(services()["nginx"]["entrypoint"]) for address in addresses)
    targets = yaml.safe_load((DEPLOY / "prometheus/compose.targets.yml").read_text())
    assert targets[0]["targets"] == ["node-1:8000", "node-2:8000"]


def test_a_collector_runs_when_it_is_wished_and_shares_the_budget_of_the_nodes() -> None:
    collector, nats, node = (services()[name] for name in ("collector", "nats", "node-1"))
    assert [name for name, each in services().items() if "profiles" in each] == ["collector", "nats"]
    assert collector["profiles"] == nats["profiles"] == ["collector"]
    assert (collector["image"], collector["command"]) == (node["image"], ["collect"])
    assert {name.lower() for name in collector["environment"]} <= set(Settings.model_fields)
    assert set(collector["secrets"]) <= set(Settings.model_fields)
    chosen = load(collector["environment"] | {"NATS_URL": "nats://klinenode:word@nats:4222"}, env_file=None)
    assert not chosen.collector_faults()
    mounts = dict(mount.split(":")[:2] for mount in collector["volumes"])
    assert mounts == {"shared": chosen.runtime_dir, "collector": chosen.collect_dir}
    made = re.search(r"^RUN mkdir (.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert made is not None
    assert set(mounts.values()) <= set(made[1].split()), "a fresh volume would belong to root"
    of_node = load(node["environment"] | {"DB_URL": URL_OF_NODES.format("word")}, env_file=None)
    assert shared_path(chosen) == shared_path(of_node), "another weight at Binance would be counted"


def test_the_nats_server_keeps_its_streams_in_a_volume_that_its_user_owns() -> None:
    nats = services()["nats"]
    docker = (DEPLOY / "nats/Dockerfile").read_text()
    configured = (DEPLOY / "nats/nats.conf").read_text()
    [folder] = re.findall(r'^ +store_dir: "(.*)"$', configured, re.MULTILINE)
    assert f"nats:{folder}" in nats["volumes"]
    assert re.findall(r"^RUN install -d -m 700 -o 1000 -g 1000 (.*)$", docker, re.MULTILINE) == [folder]
    assert f"USER {nats['user']}\n" in docker
    assert re.findall(r'^(?:http|listen): "(.*)"$', configured, re.MULTILINE) == ["0.0.0.0:4222", "127.0.0.1:8222"]


def test_secrets_are_made_once_and_closed_to_others(tmp_path: Path) -> None:
    shutil.copy(DEPLOY / "secrets.sh", tmp_path)
    for _ in range(2):
        made = run(["sh", str(tmp_path / "secrets.sh")])
        assert made.returncode == 0, made.stderr
        found = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert set(found) == set(yaml.safe_load(FILE.read_text())["secrets"])
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert found["db_url"] == URL_OF_NODES.format(found["postgres_password"])
    assert found["nats_url"] == f"nats://klinenode:{found['nats_password']}@nats:4222"
    assert found["cache_url"] == f"redis://:{found['redis_password']}@redis:6379/0"
    assert len({*found.values()}) == len(found)
    assert all(len(value) >= 64 for value in found.values())
    before = dict(found)
    run(["sh", str(tmp_path / "secrets.sh")])
    assert {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()} == before
    assert not run(["git", "-C", str(ROOT), "check-ignore", "-q", "deploy/secrets/db_url"]).returncode


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed (apt-get install nginx-light)")
def test_nginx_accepts_the_file_that_its_container_makes(tmp_path: Path) -> None:
    assert NGINX is not None
    script = services()["nginx"]["entrypoint"][-1].partition("&& exec nginx")[0]
    script = script.replace("/etc/klinenode.conf", str(DEPLOY / "nginx/klinenode.conf"))
    script = script.replace("/etc/nginx/conf.d", str(tmp_path))
    assert not run(["sh", "-c", script]).returncode
    text = (tmp_path / "klinenode.conf").read_text()
    for address in ("172.30.77.11:8000", "172.30.77.12:8000"):
        assert f"server {address} max_fails=1" in text
    assert "listen 8080;" in text
    assert "127.0.0.1" not in text
    assert "allow " not in text
    (tmp_path / "klinenode.conf").write_text(text.replace("/dev/shm/klinenode-nginx", f"{tmp_path}/pages"))
    main = tmp_path / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    files = f"pid {tmp_path}/pid; error_log {tmp_path}/log;"
    main.write_text(f"{user} {files} events {{}} http {{ include {tmp_path}/klinenode.conf; }}")
    verdict = run([NGINX, "-t", "-p", str(tmp_path), "-c", str(main), "-e", str(tmp_path / "log")])
    assert verdict.returncode == 0, verdict.stderr
