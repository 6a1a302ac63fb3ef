"""Pseudopotential files that are no more than their headers, and a program that stands in for pw.x."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

UPF_2 = """<UPF version="2.0.1">
<PP_INFO>made for a test</PP_INFO>
<PP_HEADER generated='Generated using "atomic" code'
element="{element}"
pseudo_type="{kind}"
relativistic="{relativistic}"
has_so="{has_so}"
functional="{functional}"
z_valence="{valence:.15E}"
wfc_cutoff="6.4E+001"/>
</UPF>
"""

UPF_1 = """<PP_INFO>
 made for a test
</PP_INFO>
<PP_HEADER>
   0                   Version Number
  {element}                   Element
   US                  Ultrasoft pseudopotential
    T                  Nonlinear Core Correction
 {functional}    PBE  Exchange-Correlation functional
   {valence:.11f}      Z valence
  -90.30524855311      Total energy
</PP_HEADER>
{addinfo}"""


def write_upf_2(path, element, kind="NC", functional="PBE", valence=8.0, relativistic=False):
    path.write_text(
        UPF_2.format(
            element=element,
            kind=kind,
            functional=functional,
            valence=valence,
            relativistic="full" if relativistic else "scalar",
            has_so="T" if relativistic else "F",
        )
    )


def write_upf_1(path, element, functional=" SLA  PW   PBX  PBC", valence=10.0, relativistic=False):
    addinfo = "<PP_ADDINFO>\n</PP_ADDINFO>\n" if relativistic else "<PP_RHOATOM>\n</PP_RHOATOM>\n"
    path.write_text(UPF_1.format(element=element, functional=functional, valence=valence, addinfo=addinfo))


def fake_pw(folder: Path, body: str) -> str:
    """A command whose program says that it is pw.x 6.7, and then does ``body`` (Python) on a real input."""
    program = folder / "pw.x"
    program.write_text(
        f"#!{sys.executable}\n"
        "import os, signal, sys\n"
        "print('     Program PWSCF v.6.7MaX starts on  1Jan2026 at  0: 0: 0', flush=True)\n"
        "if sys.argv[-1] == 'empty.in': sys.exit(1)\n"
        "text = open(sys.argv[-1]).read()\n" + body
    )
    program.chmod(0o755)
    return shlex.quote(str(program))
