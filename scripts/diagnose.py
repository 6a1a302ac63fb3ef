"""From the output of a failed pip to one line that names the mend; and packages that a killed pip left incomplete."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

# Order matters: without a network, pip also says that no distribution matches.
CAUSES = [
    (
        r"No space left on device|Disk quota exceeded",
        "the disk is full: free about 4 GB in this folder and in the temporary folder (or point TMPDIR elsewhere)",
    ),
    (
        r"name resolution|Name or service not known|Failed to establish a new connection|Network is unreachable"
        r"|Connection refused|ConnectTimeoutError|Read timed out|ProxyError|Max retries exceeded|Connection reset",
        "pip reached no package index: check the network or pip's configuration (`.venv/bin/pip config list`)",
    ),
    (
        r"SSLError|CERTIFICATE_VERIFY_FAILED",
        "pip does not trust the package index: set `cert` in pip's configuration to your certificate authority's file",
    ),
    (
        r"requirement (?P<what>[^\s(]+)[^\n]*\(from versions: none\)",
        "no package index that pip asked has {what}: check the network and pip's configuration "
        "(`.venv/bin/pip config list`); Python should be 3.11 to 3.13",
    ),
    (
        r"No matching distribution found for (?P<what>\S+)",
        "pip's package index has no {what} for this Python: use Python 3.11 (make install PYTHON=python3.11), or an "
        "index that has it",
    ),
    (
        r"THESE PACKAGES DO NOT MATCH THE HASHES|hash mismatch",
        "a download was damaged: try again (with PIP_NO_CACHE_DIR=1 if it stays so)",
    ),
    (
        r"ResolutionImpossible|conflicting dependencies",
        "constraints.txt and pyproject.toml contradict each other",
    ),
    (r"Permission denied: '?(?P<what>[^'\n]+)", "no permission to write {what}"),
]


def cause_of(output: str) -> str:
    """The likely cause of a failed pip run, and its mend, in one line."""
    for pattern, message in CAUSES:
        if match := re.search(pattern, output, re.IGNORECASE):
            return message.format(**{key: value.strip() for key, value in match.groupdict().items()})
    errors = [line.strip() for line in output.splitlines() if line.lstrip().lower().startswith("error")]
    return errors[-1] if errors else "the reason is at the end of the log"


def incomplete_distributions(site_packages: Path) -> list[str]:
    """Names of installed distributions with missing files: what a pip killed in the middle leaves behind.

    A distribution without its list of files (RECORD) counts as incomplete.
    """
    incomplete = []
    for distribution in metadata.distributions(path=[str(site_packages)]):
        name = distribution.metadata["Name"]
        files = distribution.files
        if not name:
            continue
        if files is None or any(
            file.suffix != ".pyc" and not Path(str(distribution.locate_file(file))).exists() for file in files
        ):
            incomplete.append(name)
    return sorted(set(incomplete))
