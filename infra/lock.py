"""Write down what pip's resolver chose: constraints.txt for the image, licences.md to read.

    python -m pip install . uv && python infra/lock.py

Run it in the image's Python (see ``infra/Dockerfile``) after every change of pyproject.toml.
"""

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

HERE = Path(__file__).parent
CLASSIFIER = "License :: "
READ_BY_HAND = {
    "cuda-toolkit": "LicenseRef-NVIDIA-Proprietary",
    "dicomweb-client": "MIT",
    "nvidia-cusparselt-cu13": "LicenseRef-NVIDIA-Proprietary",
    "python-dateutil": "Apache-2.0 OR BSD-3-Clause",
    "torch": "BSD-3-Clause",
}
"""Of packages whose metadata does not tell, from the licence in their own repositories."""


def closure() -> dict[str, metadata.Distribution]:
    """Return all that bae needs at run time here, by name: pyproject.toml's and what those need."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]
    found: dict[str, metadata.Distribution] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [(Requirement(text), frozenset[str]()) for text in project["dependencies"]]
    while waiting:
        wanted, extras = waiting.pop()
        marker = wanted.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in extras | {""}):
            continue
        there = metadata.distribution(wanted.name)
        name = there.metadata["Name"]
        found[name] = there
        if (name, of_package := frozenset(wanted.extras)) not in seen:
            seen.add((name, of_package))
            waiting += [(Requirement(text), of_package) for text in there.requires or ()]
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def licence(distribution: metadata.Distribution) -> str:
    """Return a package's licence as its own metadata tells it, shortest form first."""
    told = distribution.metadata
    if told["Name"] in READ_BY_HAND:
        return READ_BY_HAND[told["Name"]]
    text = (told.get("License-Expression") or told.get("License") or "").strip()
    if text and "\n" not in text and len(text) < 80:
        return text
    classifiers = [
        value.removeprefix(CLASSIFIER).removeprefix("OSI Approved :: ")
        for value in told.get_all("Classifier", ())
        if value.startswith(CLASSIFIER)
    ]
    return ", ".join(classifiers) or "not told"


def hashed(pins: list[str]) -> list[str]:
    """Return the pins, each with the hashes of all its files, as uv finds them in the index."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--no-deps", "--generate-hashes"]
    command += ["--no-annotate", "--no-header", "--quiet", "-"]
    done = subprocess.run(
        command, input="\n".join(pins), capture_output=True, text=True, check=True
    )
    return re.sub(r" \\\n\s*", " ", done.stdout).splitlines()


def main() -> None:
    """Write both files."""
    packages = closure()
    version = ".".join(map(str, sys.version_info[:2]))
    pins = [f"{name}=={there.version}" for name, there in packages.items()]
    rows = [f"| {n} | {there.version} | {licence(there)} |" for n, there in packages.items()]
    (HERE / "constraints.txt").write_text(
        f"# Python {version} on Linux; written by infra/lock.py\n" + "\n".join(hashed(pins)) + "\n"
    )
    (HERE / "licences.md").write_text(
        "# What `pip install` brings, and under which licence\n\n"
        "Written by `infra/lock.py` from each package's own metadata; "
        f"Python {version} on Linux.\n\n"
        "| package | version | licence |\n|---|---|---|\n" + "\n".join(rows) + "\n"
    )


if __name__ == "__main__":
    main()
