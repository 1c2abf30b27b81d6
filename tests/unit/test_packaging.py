"""One version and one set of defaults, and a wheel that carries what it needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from sessionctl import __version__
from sessionctl.sections import key_of
from sessionctl.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("chart", ["platform", "user-session"])
def test_package_and_charts_have_one_version(chart: str) -> None:
    document = yaml.safe_load((ROOT / "charts" / chart / "Chart.yaml").read_text())
    assert (document["version"], document["appVersion"]) == (__version__, __version__)


def test_the_charts_config_block_holds_the_defaults_and_every_setting() -> None:
    config = yaml.safe_load((ROOT / "charts/platform/values.yaml").read_text())["config"]
    assert load_settings("values.yaml", config, {}) == Settings()
    assert {name: set(section) for name, section in config.items()} == {
        key_of(section.name): {key_of(field.name) for field in fields(getattr(Settings(), section.name))}
        for section in fields(Settings)
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_carries_chart_scripts_and_profiles(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    chart = {
        f"sessionctl/charts/user-session/{file.relative_to(ROOT / 'charts/user-session')}"
        for file in (ROOT / "charts/user-session").rglob("*")
        if file.is_file()
    }
    lua = {f"sessionctl/adapters/store/lua/{file.name}" for file in ROOT.glob("sessionctl/adapters/store/lua/*.lua")}
    assert chart
    assert lua
    assert chart | lua | {"sessionctl/py.typed", "sessionctl/profiles/default.yaml.j2"} <= names


def test_the_wheel_works_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    # The environment's packages, with the wheel's sessionctl before that of the checkout.
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1))\n"
        "import sessionctl; from sessionctl.adapters.charts import locate_session_chart as chart\n"
        "from sessionctl.adapters.store.scripts import PARTS, source\n"
        "from sessionctl.adapters.profiles import builtin_templates\n"
        "import json; print(json.dumps([sessionctl.__file__, str(chart()), [bool(source(n)) for n in PARTS],"
        " sorted(builtin_templates())]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    package, chart, scripts, profiles = json.loads(done.stdout)
    assert package == str(tmp_path / "sessionctl/__init__.py")
    assert chart == str(tmp_path / "sessionctl/charts/user-session")
    assert all(scripts)
    assert profiles == ["default", "large"]
