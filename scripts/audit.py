"""Known holes of the pinned packages, by pip-audit, in an environment of its own.

Exit code 0: none known; 1: some, listed; 3: the advisory database cannot be reached, so nothing was audited.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".venv-audit"
UNREACHABLE = 3
PROBE_SECONDS, AUDIT_SECONDS = 45.0, 900.0
SIGNS = ("ConnectionError", "ConnectTimeout", "Max retries exceeded", "NameResolutionError", "Failed to resolve",
         "Could not connect", "ProxyError", "Connection refused", "timed out")  # fmt: skip


def main() -> int:
    """Install pip-audit if needed, ask it, pass its answer on."""
    python = FOLDER / "bin" / "python"
    if not (FOLDER / "bin" / "pip-audit").exists():
        venv.create(FOLDER, with_pip=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "pip-audit"], check=True)
    lines = requirements()
    # one package first: where the advisory database is out of reach, pip-audit tries for minutes
    if ask(python, lines[:2], PROBE_SECONDS) is None or (result := ask(python, lines, AUDIT_SECONDS)) is None:
        print("nothing was audited: the advisory database cannot be reached from here", file=sys.stderr)
        return UNREACHABLE
    print(result.stdout + result.stderr, end="")
    return result.returncode


def ask(python: Path, lines: list[str], seconds: float) -> subprocess.CompletedProcess[str] | None:
    """What pip-audit says about requirements; None if it does not get through."""
    path = FOLDER / "pinned.txt"
    path.write_text("".join(f"{line}\n" for line in lines))
    command = [str(python), "-m", "pip_audit", "--no-deps", "--disable-pip", "--progress-spinner=off", "-r", str(path)]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return None
    nothing = result.stdout.count("could not be audited") == len(lines)  # so a mirror without advisories looks
    return None if nothing or any(sign in result.stderr for sign in SIGNS) else result


def requirements() -> list[str]:
    """The pins."""
    lines = [line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    return [line for line in lines if "==" in line]


if __name__ == "__main__":
    sys.exit(main())
