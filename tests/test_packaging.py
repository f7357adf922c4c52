"""What is shipped beside the package: image, compose file, scripts, constraints, licence."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from ml_backend.host.allocator import allocator
from ml_backend.settings import Settings

ROOT = Path(__file__).parents[1]
SCRIPTS = [*sorted((ROOT / "scripts").glob("*.sh")), ROOT / ".ci/run"]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
COMPOSE_TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load(COMPOSE_TEXT)
SERVICES = COMPOSE["services"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pins(name: str) -> dict[str, str]:
    """Package → version, of a constraints file in which every line must be an exact pin."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    found = {}
    for line in filter(lambda line: line and not line.startswith("#"), lines):
        package, separator, version = line.partition("==")
        assert separator, f"{name}: {line!r} is not an exact pin"
        assert canonicalize_name(package) not in found, f"{name}: {package} is pinned twice"
        found[canonicalize_name(package)] = version
    return found


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse_and_stop_at_errors(script: Path):
    """Every script is executable, valid bash, and neither errors nor typos go unnoticed."""
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    assert script.stat().st_mode & 0o111
    assert "set -euo pipefail" in script.read_text(encoding="utf-8")


def test_constraints_pin_every_requirement():
    """Each requirement of the package and its tools is pinned within its range, build-free."""
    pinned = pins("constraints.txt")
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
    for requirement in map(Requirement, wanted):
        version = pinned.get(canonicalize_name(requirement.name))
        assert version, f"{requirement.name} is not pinned"
        assert requirement.specifier.contains(Version(version)), f"{requirement} ≠ {version}"
    assert pinned["torch"] == "2.13.0"


def test_label_studio_is_pinned():
    """The tested Label Studio, the image in compose and the documentation name one version."""
    version = pins("constraints-label-studio.txt")["label-studio"]
    assert SERVICES["label-studio"]["image"].endswith(f":{version}")
    assert version in (ROOT / "docs/label-studio.md").read_text(encoding="utf-8")


def test_the_image_copies_what_exists():
    """Every path that the Dockerfile copies from the context is there and not ignored."""
    allowed = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    }
    copied = set()
    for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE):
        copied.update(line.split()[:-1])
    assert copied == allowed
    assert all((ROOT / path).exists() for path in copied)


def test_the_image_is_lean_and_unprivileged():
    """Two stages, pins applied, another user than root, a health check, our allocator."""
    last = DOCKERFILE.split("\nFROM ")[-1]
    assert DOCKERFILE.count("\nFROM ") == 2
    assert "--constraint constraints.txt" in DOCKERFILE
    assert re.search(r"^USER (?!root|0)\w+$", last, re.MULTILINE)
    assert "HEALTHCHECK" in last
    assert all(f"{name}={value}" in last for name, value in allocator("glibc 2.36").items())


def test_compose_has_the_whole_loop():
    """All services are there, each with a health check and restarted, over one volume."""
    lasting = {"redis", "postgres", "label-studio", "backend", "worker", "scheduler"}
    assert lasting <= set(SERVICES)
    for name in lasting:
        service = SERVICES[name]
        assert service["restart"] == "unless-stopped"
        assert "healthcheck" in service or (name == "backend" and "HEALTHCHECK" in DOCKERFILE)
        assert service["volumes"] == ["data:/data"]
    assert list(COMPOSE["volumes"]) == ["data"]


def test_compose_waits_for_services_that_exist():
    """`depends_on` names services of the file."""
    for service in SERVICES.values():
        assert set(service.get("depends_on", ())) <= set(SERVICES)


def test_compose_sets_both_address_flags():
    """Label Studio may reach the backend's private address."""
    environment = SERVICES["label-studio"]["environment"]
    assert environment["ML_BLOCK_LOCAL_IP"] == "false"
    assert environment["SSRF_PROTECTION_ENABLED"] == "false"


def test_compose_uses_real_settings():
    """Every BRUSHLOOP_ variable of image and compose file is a setting."""
    known = {f"BRUSHLOOP_{name.upper()}" for name in Settings.model_fields}
    used = set(re.findall(r"\b(BRUSHLOOP_[A-Z_]+)\b", COMPOSE_TEXT + DOCKERFILE))
    assert used <= known


def test_compose_variables_stand_in_the_example():
    """`.env.example` names each variable that compose asks for, and no other."""
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    asked = set(re.findall(r"\$\{(\w+)", COMPOSE_TEXT))
    assert set(re.findall(r"^(\w+)=", example, re.MULTILINE)) == asked
    # a missing one stops compose instead of becoming an empty password; an address may be missing
    assert set(re.findall(r"\$\{(\w+):\?", COMPOSE_TEXT)) == asked - {"LABEL_STUDIO_ADDRESS"}


def test_docker_accepts_the_compose_file(tmp_path: Path):
    """`docker compose config` finds no fault, where docker has compose."""
    docker = shutil.which("docker")
    if (
        docker is None
        or subprocess.run(
            [docker, "compose", "version"], check=False, capture_output=True
        ).returncode
    ):
        pytest.skip("docker compose is not installed")
    command = [
        docker,
        "compose",
        "--env-file",
        str(ROOT / ".env.example"),
        "-f",
        str(ROOT / "docker-compose.yml"),
        "config",
        "--quiet",
    ]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_licence_is_whole():
    """LICENSE is the full Apache text that pyproject.toml names."""
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert PROJECT["license"] == "Apache-2.0"
    assert "END OF TERMS AND CONDITIONS" in text
    assert "APPENDIX: How to apply the Apache License" in text


def test_the_changelog_knows_this_version():
    """CHANGELOG.md has a section for the version in pyproject.toml."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\n## {PROJECT['version']} " in changelog
    assert SERVICES["worker"]["image"] == f"brushloop:{PROJECT['version']}"
