"""The cluster's manifests: valid, closed, and about things that exist."""

from __future__ import annotations

import functools
import importlib
import json
import re
import shlex
import shutil
import string
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from bae import recipes
from bae.archive import privacy
from jobs import command

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
SCHEMAS = ROOT.parent / "shared" / "kuberay"
OVERLAYS = ("development", "gpu", "jobs")
PLACES = dict(
    line.split("=", 1)
    for line in (CLUSTER / "base" / "places.env").read_text().splitlines()
    if not line.startswith("#")
)
AWS = yaml.safe_load((CLUSTER / "aws.yaml").read_text())

# ---- what the manifests say -----------------------------------------------------------------


def _documents(path: Path) -> list[Any]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


@functools.cache
def _rendered(overlay: str) -> tuple[dict[str, Any], ...]:
    """Let kustomize put an overlay together."""
    tools = {"kustomize": ["kustomize", "build"], "kubectl": ["kubectl", "kustomize"]}
    tool = next((words for name, words in tools.items() if shutil.which(name)), None)
    if tool is None:
        pytest.skip("neither kustomize nor kubectl is installed")
    done = subprocess.run(
        [*tool, str(CLUSTER / overlay)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def _of_kind(overlay: str, kind: str) -> list[dict[str, Any]]:
    return [item for item in _rendered(overlay) if item["kind"] == kind]


def _inside(value: Any, key: str) -> Iterator[Any]:
    """Find every value of a key, however deep."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == key:
                yield inner
            yield from _inside(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from _inside(inner, key)


def _pods(overlay: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Find every pod's specification: wherever there are containers."""

    def walk(value: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
        if isinstance(value, dict):
            if "containers" in value:
                yield place, value
            for name, inner in value.items():
                yield from walk(inner, f"{place}.{name}")
        elif isinstance(value, list):
            for number, inner in enumerate(value):
                yield from walk(inner, f"{place}[{number}]")

    for item in _rendered(overlay):
        yield from walk(item, f"{overlay}: {item['kind']} {item['metadata']['name']}")


# ---- valid ----------------------------------------------------------------------------------


def _strict(schema: Any) -> Any:
    """Forbid unknown fields in KubeRay's schema, as its folder's README says."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _strict(value) for key, value in schema.items()}
    if made.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
    known = isinstance(made.get("properties"), dict) and made.get("type") == "object"
    if known and not made.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made


def _validator(kind: str) -> jsonschema.Draft202012Validator:
    if not SCHEMAS.is_dir():
        pytest.skip("KubeRay's schemas are not beside the checkout (../shared/kuberay)")
    schema = json.loads((SCHEMAS / f"{kind.lower()}.v1.schema.json").read_text())
    return jsonschema.Draft202012Validator(_strict(schema))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_ray_object_fits_kuberays_schema(overlay: str) -> None:
    """No unknown field, however deep."""
    found = [item for item in _rendered(overlay) if item["apiVersion"].startswith("ray.io/")]
    assert found
    for item in found:
        _validator(item["kind"]).validate(item)


@pytest.mark.parametrize("overlay", ["development", "gpu"])
def test_every_other_object_fits_kubernetes_schema(overlay: str) -> None:
    """No unknown field either."""
    found = [item for item in _rendered(overlay) if not item["apiVersion"].startswith("ray.io/")]
    assert len(found) >= 10
    for item in found:
        kubernetes_validate.validate(item, "1.34", strict=True)


def test_a_typo_in_a_manifest_would_show() -> None:
    """The strict schemas refuse what Kubernetes would silently drop."""
    validator = _validator("RayCluster")
    (cluster,) = _documents(CLUSTER / "base" / "raycluster.yaml")
    validator.validate(cluster)
    cluster["spec"]["workerGroupSpecs"][0]["maxReplica"] = 3
    with pytest.raises(jsonschema.ValidationError, match="maxReplica"):
        validator.validate(cluster)
    budget = _documents(CLUSTER / "base" / "disruption.yaml")[0]
    budget["spec"]["minAvailible"] = 1
    with pytest.raises(kubernetes_validate.ValidationError, match="minAvailible"):
        kubernetes_validate.validate(budget, "1.34", strict=True)


def test_ray_up_file_fits_rays_own_schema() -> None:
    """As `ray up` checks it, but for the defaults that it fills in."""
    import ray

    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(AWS, schema)
    types = AWS["available_node_types"]
    assert AWS["head_node_type"] in types
    for name, kind in types.items():
        assert kind.get("min_workers", 0) <= kind.get("max_workers", 0) or name == "head"
    assert types["head"]["node_config"].get("InstanceMarketOptions") is None
    assert types["gpu"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}


def test_kustomizations_name_files_and_targets_that_exist() -> None:
    """Also where kustomize is not installed: nothing named is missing, no file is forgotten."""
    used = set()
    for path in CLUSTER.rglob("kustomization.yaml"):
        (made,) = _documents(path)
        used.add(path.resolve())
        files = [*made.get("resources", ()), *made.get("components", ())]
        files += [patch["path"] for patch in made.get("patches", ()) if "path" in patch]
        files += [env for maker in made.get("configMapGenerator", ()) for env in maker["envs"]]
        for name in files:
            place = (path.parent / name).resolve()
            assert place.exists(), f"{path}: {name}"
            used.add(place / "kustomization.yaml" if place.is_dir() else place)
    kinds = {
        (item["kind"], item["metadata"]["name"])
        for file in CLUSTER.rglob("*.yaml")
        for item in _documents(file)
        if isinstance(item, dict) and "metadata" in item and item.get("kind") != "Kustomization"
    }
    for path in CLUSTER.rglob("kustomization.yaml"):
        for patch in _documents(path)[0].get("patches", ()):
            target = patch["target"]
            there = [name for kind, name in kinds if kind == target["kind"]]
            assert target.get("name", there[0]) in there
    beside = {CLUSTER / "aws.yaml", CLUSTER / "README.md", CLUSTER / "engineer.md"}
    assert {path for path in CLUSTER.rglob("*") if path.is_file()} - beside == used


# ---- closed ---------------------------------------------------------------------------------


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_pod_is_root_or_writes_its_own_image(overlay: str) -> None:
    """Not root, no privileges to gain, no capabilities, a read-only root, limits on all."""
    pods = list(_pods(overlay))
    assert pods
    for place, pod in pods:
        context = pod["securityContext"]
        assert context["runAsNonRoot"] and context["runAsUser"] > 0, place
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, place
        for container in pod["containers"]:
            contained = container["securityContext"]
            assert contained["readOnlyRootFilesystem"], place
            assert contained["allowPrivilegeEscalation"] is False, place
            assert contained["capabilities"] == {"drop": ["ALL"]}, place
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}, place
            assert container["resources"]["limits"].keys() >= {"cpu", "memory"}, place
            writable = [
                mount["mountPath"] for mount in container["volumeMounts"] if "readOnly" not in mount
            ]
            assert writable in (["/tmp"], ["/data"]), place
        if "bae-head" not in pod.get("serviceAccountName", ""):
            assert pod["automountServiceAccountToken"] is False, place


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_images_are_named_by_digest_in_one_place(overlay: str) -> None:
    """And nowhere else."""
    images = list(_inside(list(_rendered(overlay)), "image"))
    assert images
    assert all(re.search(r"@sha256:[0-9a-f]{64}$", image) for image in images)
    names = {item["name"] for item in _documents(CLUSTER / "image/kustomization.yaml")[0]["images"]}
    for path in CLUSTER.rglob("*.yaml"):
        if path.parent.name != "image" and path.name != "aws.yaml":
            assert set(re.findall(r"image: (\S+)", path.read_text())) <= names, path


def test_ray_up_runs_the_image_of_the_kustomize_place() -> None:
    """One digest for both ways."""
    images = _documents(CLUSTER / "image" / "kustomization.yaml")[0]["images"]
    (ec2,) = [item for item in images if item["name"] == "bae-ec2"]
    assert AWS["docker"]["image"] == f"{ec2['newName']}@{ec2['digest']}"


@pytest.mark.parametrize("overlay", ["development", "gpu"])
def test_clusters_ask_for_a_token_and_close_the_dashboard(overlay: str) -> None:
    """The token comes from a Secret; only submitters and the operator reach port 8265."""
    (cluster,) = _of_kind(overlay, "RayCluster")
    assert cluster["spec"]["authOptions"] == {"mode": "token", "secretName": "bae-ray-token"}
    assert cluster["spec"]["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert not list(_inside(cluster, "enableIngress")) and not _of_kind(overlay, "Ingress")
    policies = {
        item["metadata"]["name"]: item["spec"] for item in _of_kind(overlay, "NetworkPolicy")
    }
    assert policies["bae-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    (rule,) = policies["bae-dashboard"]["ingress"]
    assert [port["port"] for port in rule["ports"]] == [8265]
    for name, policy in policies.items():
        for rule in policy.get("ingress", ()):
            assert rule["from"], f"{name} lets everyone in"
            assert not list(_inside(rule["from"], "ipBlock")), name
            assert 10001 not in [port["port"] for port in rule.get("ports", ())], name
        for rule in policy.get("egress", ()):
            ports = [port["port"] for port in rule.get("ports", ())]
            assert rule.get("to") or ports == [443], f"{name} lets anything out"


def test_ray_jobs_ask_for_nothing_that_kuberay_refuses() -> None:
    """On a cluster that is there already it knows no retries and no clean-up."""
    jobs = _of_kind("jobs", "RayJob")
    assert len(jobs) == 4
    for job in jobs:
        assert job["spec"]["clusterSelector"] == {"ray.io/cluster": "bae"}
        refused = {"backoffLimit", "ttlSecondsAfterFinished", "shutdownAfterJobFinishes", "suspend"}
        assert not refused & job["spec"].keys()


def test_the_nightly_job_is_a_lock_with_a_date() -> None:
    """Forbid keeps two pods apart, the submission id two nights."""
    (night,) = _of_kind("gpu", "CronJob")
    assert night["spec"]["concurrencyPolicy"] == "Forbid"
    assert night["spec"]["jobTemplate"]["spec"]["backoffLimit"] == 0
    (words,) = next(_inside(night, "args"))
    assert '--submission-id "night-$(date -u +%F)"' in words


def test_a_node_that_is_drained_spares_the_head() -> None:
    """A disruption budget for the head and one for its workers, whose labels KubeRay sets."""
    kinds = {
        item["spec"]["selector"]["matchLabels"]["ray.io/node-type"]: item["spec"]
        for item in _of_kind("gpu", "PodDisruptionBudget")
    }
    assert kinds["head"]["minAvailable"] == 1
    assert kinds["worker"]["maxUnavailable"] == 1


def test_the_gpu_cluster_survives_its_head_and_its_spot_nodes() -> None:
    """State outside the head, head on demand, GPU workers on spot and from zero."""
    (cluster,) = _of_kind("gpu", "RayCluster")
    spec = cluster["spec"]
    assert spec["enableInTreeAutoscaling"]
    assert spec["gcsFaultToleranceOptions"]["redisPassword"]["valueFrom"]["secretKeyRef"]
    (service,) = _of_kind("gpu", "Service")
    address = spec["gcsFaultToleranceOptions"]["redisAddress"]
    assert address == f"redis://{service['metadata']['name']}:6379"
    head = spec["headGroupSpec"]["template"]["spec"]
    assert head["nodeSelector"]["eks.amazonaws.com/capacityType"] == "ON_DEMAND"
    (gpu,) = [group for group in spec["workerGroupSpecs"] if group["groupName"] == "gpu"]
    assert gpu["template"]["spec"]["nodeSelector"]["eks.amazonaws.com/capacityType"] == "SPOT"
    assert gpu["minReplicas"] == 0 < gpu["maxReplicas"]


# ---- about things that exist ----------------------------------------------------------------


def _commands() -> dict[str, str]:
    """Find every job's command line in the manifests and in the README."""
    found = {}
    for path in [*(CLUSTER / "jobs").glob("*.yaml"), CLUSTER / "gpu" / "nightly.yaml"]:
        for item in _documents(path):
            for text in [*_inside(item, "entrypoint"), *_inside(item, "args")]:
                line = text if isinstance(text, str) else " ".join(text)
                found[item["metadata"]["name"]] = line[line.index("python -m jobs.") :]
    readme = (CLUSTER / "README.md").read_text().replace("\\\n", " ")
    for line in re.findall(r"python -m jobs\.[^\n]*", readme):
        found[f"README {line.split()[2]}"] = line
    return found


def _options(line: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Parse a command line with the parser of the job that it names."""
    words = shlex.split(string.Template(line).substitute(PLACES))
    parsed: dict[str, Any] = {}
    monkeypatch.setattr(
        command, "run", lambda parser, job, argv: parsed.update(vars(parser.parse_args(argv))) or 0
    )
    importlib.import_module(words[2]).main(words[3:])
    return parsed


def test_every_entry_point_has_flags_that_its_job_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs, flags, recipes, places: each is there."""
    commands = _commands()
    assert len(commands) >= 5
    for name, line in commands.items():
        options = _options(line, monkeypatch)
        assert options["tables"].startswith("s3://"), name
        if "recipe" in options:
            recipes.recipe(options["recipe"], options["changes"])


def test_environment_variables_are_ones_that_somebody_reads() -> None:
    """Ours are read by bae; the others are AWS' and Ray's own."""
    names = {
        entry["name"]
        for overlay in OVERLAYS
        for entries in _inside(list(_rendered(overlay)), "env")
        for entry in entries
    }
    names |= set(re.findall(r"--env (\w+)=", " ".join(AWS["docker"]["run_options"])))
    ray_and_aws = {
        "RAY_AUTH_MODE",
        "RAY_AUTH_TOKEN",
        "RAY_AUTH_TOKEN_PATH",
        "AWS_REGION",
        "RAY_JOB_STOP_WAIT_TIME_S",
    }
    assert names - ray_and_aws == {privacy.KEY_FILE_VARIABLE}
    lines = " ".join(_commands().values())
    assert set(re.findall(r"\$(\w+)", lines)) <= PLACES.keys()
    assert PLACES.keys() - {"AWS_REGION"} <= set(re.findall(r"\$(\w+)", lines))


def test_the_readme_makes_every_secret_that_the_manifests_ask_for() -> None:
    """Each Secret with each of its keys; KubeRay wants the token under ``auth_token``."""
    text = (CLUSTER / "README.md").read_text().replace("\\\n", " ")
    made: dict[str, set[str]] = {}
    for name, rest in re.findall(r"create secret generic (\S+)([^\n]*)", text):
        made[name] = set(re.findall(r"--from-file=([\w.-]+)", rest))
    wanted: dict[str, set[str]] = {"bae-ray-token": {"auth_token"}}
    for overlay in OVERLAYS:
        items = list(_rendered(overlay))
        for ref in _inside(items, "secretKeyRef"):
            wanted.setdefault(ref["name"], set()).add(ref["key"])
        for volume in _inside(items, "secret"):
            keys = {item["key"] for item in volume.get("items", ())}
            wanted.setdefault(volume["secretName"], set()).update(keys)
        paths = [
            entry["value"]
            for entries in _inside(items, "env")
            for entry in entries
            if entry.get("value", "").startswith("/run/secrets/bae/")
        ]
        every_key = set().union(*made.values())
        assert {Path(path).name for path in paths} <= every_key
    assert wanted.keys() == made.keys()
    assert all(keys <= made[name] for name, keys in wanted.items())


def test_workers_have_what_the_jobs_ask_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """At their largest: a GPU and a CPU for each actor or trainer, and CPUs left to decode."""
    (cluster,) = _of_kind("gpu", "RayCluster")
    most = {"cpu": 0.0, "nvidia.com/gpu": 0.0}
    for group in cluster["spec"]["workerGroupSpecs"]:
        (container,) = group["template"]["spec"]["containers"]
        for name in most:
            most[name] += group["maxReplicas"] * float(
                container["resources"]["limits"].get(name, 0)
            )
    for name, line in _commands().items():
        if name.startswith("README"):
            continue
        options = _options(line, monkeypatch)
        workers = options.get("workers", options.get("actors"))
        count = workers if isinstance(workers, int) else workers[1]
        assert count * options["gpus"] <= most["nvidia.com/gpu"], name
        assert count + 1 < most["cpu"], name
    types = AWS["available_node_types"]
    assert types["gpu"]["max_workers"] * types["gpu"]["resources"]["GPU"] == most["nvidia.com/gpu"]


# ---- the upload -----------------------------------------------------------------------------


def test_the_upload_holds_the_code_and_nothing_else(tmp_path: Path) -> None:
    """Ray packs a working directory with its own function; .git, data and keys stay behind."""
    from ray._private.ray_constants import get_runtime_env_default_excludes
    from ray._private.runtime_env.packaging import create_package

    folder = tmp_path / "checkout"
    kept = ("bae", "jobs", "pyproject.toml", ".rayignore", ".gitignore")
    shutil.copytree(
        ROOT,
        folder,
        ignore=lambda at, names: [name for name in names if Path(at) == ROOT and name not in kept],
    )
    secret = (
        "token",
        ".env",
        "key.pem",
        "data/one.dcm",
        "ages.parquet",
        "w.safetensors",
        "w.pth",
        "demo-data/archive/x",
        ".git/objects/ab",
        ".venv/lib/x.py",
        "cluster/aws.yaml",
        "infra/views.sql",
        "bae/__pycache__/x.pyc",
        "bae.egg-info/PKG-INFO",
    )
    for name in secret:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    package = tmp_path / "package.zip"
    create_package(
        str(folder), package, include_gitignore=True, excludes=get_runtime_env_default_excludes()
    )
    names = zipfile.ZipFile(package).namelist()
    assert not {name for name in names if name in secret}
    assert {"bae/method/predictor.py", "jobs/predict.py", "bae/phantom/__init__.py"} <= set(names)
    pictures = {name for name in names if Path(name).suffix in (".png", ".dcm", ".parquet")}
    assert not pictures
    assert package.stat().st_size < 2_000_000
