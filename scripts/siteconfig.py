"""Which libraries GPAW can be built with on this machine: each is tried by compiling, linking and running a program.

Standard library only: it runs before anything is installed.
"""

import os
import shutil
import subprocess
import tempfile

# One program per library. GPAW calls BLAS by its Fortran names, so the probe does too. Some C++17 is in the first one,
# because GPAW needs it and old compilers lack it.
PROGRAMS = {
    "c++17": """
        #include <optional>
        int main() { std::optional<int> three = 3; return *three - 3; }
    """,
    "xc": """
        #include <xc.h>
        int main() {
            xc_func_type functional;
            if (xc_func_init(&functional, XC_GGA_X_PBE, XC_POLARIZED)) return 1;
            xc_func_end(&functional);
            return 0;
        }
    """,
    "openblas": """
        extern "C" double dnrm2_(const int*, const double*, const int*);
        int main() {
            const int two = 2, one = 1;
            const double vector[2] = {3.0, 4.0};
            const double norm = dnrm2_(&two, vector, &one);
            return !(norm > 4.999 && norm < 5.001);
        }
    """,
    "fftw3": """
        #include <fftw3.h>
        int main() {
            double in[8] = {0}, out[8];
            fftw_plan plan = fftw_plan_r2r_1d(8, in, out, FFTW_R2HC, FFTW_ESTIMATE);
            if (!plan) return 1;
            fftw_execute(plan);
            fftw_destroy_plan(plan);
            return 0;
        }
    """,
}
LIBRARIES = ("xc", "openblas", "fftw3")
DEBIAN_PACKAGES = {"xc": "libxc-dev", "openblas": "libopenblas-dev", "fftw3": "libfftw3-dev"}


def find_compiler() -> str | None:
    """A C++ compiler that can build C++17 programs: CXX, g++ or clang++; None if there is none."""
    for name in (os.environ.get("CXX"), "g++", "clang++"):
        if name and shutil.which(name) and works(name, "c++17"):
            return name
    return None


def works(compiler: str, library: str) -> bool:
    """Whether a program that needs ``library`` (a key of PROGRAMS) compiles, links and runs."""
    link = [] if library == "c++17" else ["-l" + library]
    with tempfile.TemporaryDirectory(prefix="mmace-probe-") as folder:
        source, program = os.path.join(folder, "probe.cpp"), os.path.join(folder, "probe")
        with open(source, "w") as file:
            file.write(PROGRAMS[library])
        for command in ([compiler, "-std=c++17", source, "-o", program, *link], [program]):
            try:
                done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)
            except (OSError, subprocess.TimeoutExpired):
                return False
            if done.returncode != 0:
                return False
    return True


def probe(compiler: str) -> dict[str, bool]:
    """Which of LIBRARIES can be used with ``compiler``."""
    return {library: works(compiler, library) for library in LIBRARIES}


def siteconfig(compiler: str, found: dict[str, bool]) -> str:
    """The text of GPAW's siteconfig.py for a serial build with the libraries in ``found``; bare if there are none."""
    libraries: list[str] = [library for library in LIBRARIES if found.get(library)]
    lines = ["mpi = False", f"compiler = {compiler!r}", f"libraries = {libraries!r}"]
    # GPAW has fallbacks of its own: slower, with the same energies for LDA and PBE
    lines.append(f"noblas = {not found.get('openblas')}")
    lines.append(f"nolibxc = {not found.get('xc')}")
    lines.append(f"fftw = {bool(found.get('fftw3'))}")
    return "\n".join(lines) + "\n"
