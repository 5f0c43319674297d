"""Compiles the data path: ``python hatch_build.py`` in a checkout, HARBOR_COMPILE=1 while a wheel is built.

mypyc makes machine code from the modules that ``harbor/compiled.py`` names, as they stand; it needs a C compiler and
Python's headers. Nothing depends on it: without it Harbor runs the same source in plain Python.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT))  # a build backend does not look there
os.environ["HARBOR_PURE"] = "1"  # what is compiled is the source

from harbor import compiled  # noqa: E402


def why_not() -> str | None:
    """What is missing here, in words; None if nothing is."""
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        return f"there is no C compiler ({compiler}); on Debian: apt install gcc libc6-dev"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "Python's headers are missing; on Debian: apt install python3-dev"
    try:
        import mypyc.build  # noqa: F401
        import setuptools  # noqa: F401
    except ImportError as missing:
        return f"{missing.name} is not installed; pip install mypy setuptools"
    return None


def build(folder: Path) -> None:
    """Compile into ``folder``, all or nothing."""
    from mypyc.build import mypycify
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    digest = compiled.digest()
    sources = [str(compiled.source_of(module).relative_to(ROOT)) for module in compiled.MODULES]
    with tempfile.TemporaryDirectory() as scratch:
        here = os.getcwd()
        os.chdir(ROOT)  # module names come from paths
        try:
            extensions = mypycify(
                ["--config-file=", "--ignore-missing-imports", f"--cache-dir={scratch}/cache", *sources],
                group_name=compiled.GROUP,
                target_dir=f"{scratch}/c",
                opt_level="3",
                debug_level="0",
            )
            command = build_ext(Distribution({"name": "harbor", "ext_modules": extensions}))
            command.build_lib, command.build_temp = f"{scratch}/lib", f"{scratch}/objects"
            command.ensure_finalized()
            command.run()
        finally:
            os.chdir(here)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, file in compiled.files(folder).items():
            shutil.move(Path(scratch, "lib", *name.split(".")).with_name(_file_name(name)), file)
        (folder / compiled.STAMP).write_text(digest)


def _file_name(module: str) -> str:
    return module.rpartition(".")[2] + str(sysconfig.get_config_var("EXT_SUFFIX"))


class CustomBuildHook(BuildHookInterface[Any]):
    """Puts machine code into a wheel that is built with HARBOR_COMPILE=1."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable" or os.environ.get("HARBOR_COMPILE") != "1":
            return
        missing = why_not()
        if missing is not None:
            raise RuntimeError(f"HARBOR_COMPILE=1: {missing}")
        build(compiled.FOLDER)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["artifacts"].append("/harbor/_compiled")


def main() -> int:
    """Bring the machine code of this checkout up to date, if that is possible here."""
    if compiled.is_current():
        return 0
    missing = why_not()
    if missing is not None:
        print(f"The data path stays plain Python: {missing}", file=sys.stderr)
        return 0
    print("Compiling the data path ...", file=sys.stderr)
    build(compiled.FOLDER)
    return 0


if __name__ == "__main__":
    sys.exit(main())
