"""Assets are found without importing them, checked before use, and installed by hash."""

import dataclasses
import hashlib
import importlib
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vislm_tutorial import registry
from vislm_tutorial.registry import ASSETS, Asset, AssetError

CONTENT = b"weights"
PACKAGE = "vislm_test_wheel"


@pytest.fixture
def asset(monkeypatch, tmp_path):
    """A small asset in the table; its package may be installed with `install`."""
    monkeypatch.setenv("VISLM_CACHE", str(tmp_path / "cache"))
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    entry = Asset(
        name="tiny",
        kind="encoder",
        title="a tiny model",
        wheel="vislm-test-wheel",
        wheel_version="1.0",
        wheel_sha256="a" * 64,
        folder=f"{PACKAGE}/model",
        files={"model.safetensors": (hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))},
        licence="MIT",
        source_url="https://example.org",
    )
    monkeypatch.setitem(ASSETS, "tiny", entry)
    return entry


def install(site: Path, content: bytes = CONTENT) -> Path:
    file = site / PACKAGE / "model" / "model.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    (site / PACKAGE / "__init__.py").write_text("raise RuntimeError('imported')")
    importlib.invalidate_caches()
    return file


def test_an_installed_asset_is_found_without_importing_its_package(asset, tmp_path):
    file = install(tmp_path / "site")
    assert registry.find("tiny") == file.parent
    assert PACKAGE not in sys.modules


def test_a_damaged_file_is_named_with_both_hashes_and_the_remedy(asset, tmp_path):
    file = install(tmp_path / "site", b"damaged")
    expected, found = asset.files[file.name][0], hashlib.sha256(b"damaged").hexdigest()
    for check in (registry.find, registry.verify):
        with pytest.raises(AssetError) as caught:
            check("tiny")
        for part in (str(file), expected, found, "vislm models get tiny"):
            assert part in str(caught.value)


def test_damage_after_a_first_use_is_noticed(asset, tmp_path):
    file = install(tmp_path / "site")
    registry.find("tiny")
    file.write_bytes(b"truncat")
    with pytest.raises(AssetError, match="not the file that was tested"):
        registry.find("tiny")


def test_a_missing_file_and_a_missing_package_say_what_to_do(asset, tmp_path):
    with pytest.raises(AssetError, match="not installed. Run `vislm models get tiny`"):
        registry.find("tiny")
    with pytest.raises(AssetError, match="not installed"):
        registry.verify("tiny")
    install(tmp_path / "site").unlink()
    with pytest.raises(AssetError, match="model.safetensors is missing from vislm-test-wheel"):
        registry.find("tiny")


def test_an_unknown_name_lists_the_known_ones():
    for call in (registry.find, registry.verify, registry.get):
        with pytest.raises(ValueError, match="'bert'; expected one of minilm, smollm2, openmoji"):
            call("bert")


class FakeInstaller:
    """Stands where subprocess.run is: notes the command and, if it succeeds, installs."""

    def __init__(self, site: Path, returncode: int = 0) -> None:
        self.site, self.returncode = site, returncode
        self.command, self.requirement = None, None

    def __call__(self, command, **options):
        self.command, self.requirement = command, Path(command[-1]).read_text()
        if self.returncode == 0:
            install(self.site)
        return subprocess.CompletedProcess(command, self.returncode, "", "no such index\n")


def test_get_installs_one_wheel_by_hash_and_without_dependencies(asset, tmp_path, monkeypatch):
    installer = FakeInstaller(tmp_path / "site")
    monkeypatch.setattr(subprocess, "run", installer)
    lines = registry.get("tiny")
    assert installer.requirement == f"vislm-test-wheel==1.0 --hash=sha256:{'a' * 64}\n"
    assert {"--no-deps", "--require-hashes"} <= set(installer.command)
    assert installer.command[0] == sys.executable
    assert len(lines) == 1 and lines[0].startswith("tiny: installed with pip, wheel vislm-test")

    installer.command = None
    assert "already installed" in registry.get("tiny")[0]
    assert installer.command is None


def test_get_mends_a_damaged_asset(asset, tmp_path, monkeypatch):
    install(tmp_path / "site", b"damaged")
    monkeypatch.setattr(subprocess, "run", FakeInstaller(tmp_path / "site"))
    assert "installed with pip" in registry.get("tiny")[0]
    registry.verify("tiny")


def test_get_tries_uv_where_pip_is_absent(asset, tmp_path, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "pip" else find_spec(name)
    )
    monkeypatch.setattr(registry.shutil, "which", lambda name: None)
    with pytest.raises(AssetError, match="has no pip and there is no uv.*ensurepip"):
        registry.get("tiny")

    installer = FakeInstaller(tmp_path / "site")
    monkeypatch.setattr(subprocess, "run", installer)
    monkeypatch.setattr(registry.shutil, "which", lambda name: "/opt/bin/uv")
    assert "installed with uv" in registry.get("tiny")[0]
    assert installer.command[:5] == ["/opt/bin/uv", "pip", "install", "--python", sys.executable]


def test_a_failed_installation_shows_the_installers_words(asset, tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", FakeInstaller(tmp_path / "site", returncode=1))
    with pytest.raises(AssetError, match="(?s)pip could not install.*no such index.*tiny` again"):
        registry.get("tiny")


def test_a_hub_id_without_network_fails_at_once(monkeypatch, tmp_path):
    def no_network(*args, **options):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    start = time.monotonic()
    with pytest.raises(AssetError, match="owner/no-such-model.*allow_network=True"):
        registry.find_on_hub("owner/no-such-model")
    assert time.monotonic() - start < 10  # trying the network costs more than 20 s in retries


def test_a_hub_that_cannot_be_reached_is_reported(monkeypatch):
    def unreachable(hub_id, **options):
        assert not options["local_files_only"]
        raise ConnectionError("no route to host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    with pytest.raises(AssetError, match="owner/model .* could not be fetched: no route to host"):
        registry.find_on_hub("owner/model", allow_network=True)


def test_a_hub_copy_that_was_only_begun_counts_as_absent(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **options: str(tmp_path))
    with pytest.raises(AssetError, match="not in the local hub cache"):
        registry.find_on_hub("owner/model")
    (tmp_path / "config.json").write_text("{}")
    assert registry.find_on_hub("owner/model") == tmp_path


def test_the_hub_cache_stands_in_for_a_wheel_and_is_checked(asset, tmp_path, monkeypatch):
    monkeypatch.setitem(ASSETS, "tiny", dataclasses.replace(asset, hub_id="owner/tiny"))
    copy = tmp_path / "hub"
    copy.mkdir()
    (copy / "model.safetensors").write_bytes(CONTENT)
    monkeypatch.setattr(registry, "find_on_hub", lambda *arguments: copy)
    assert registry.find("tiny") == copy
    (copy / "model.safetensors").write_bytes(b"another")
    with pytest.raises(AssetError, match="not the file that was tested"):
        registry.find("tiny")


@pytest.mark.parametrize("name", ["minilm", "smollm2", "openmoji"])
def test_the_table_matches_the_tested_wheels(name):
    folder, entry = registry.find(name), ASSETS[name]
    for pattern, (sha256, size) in entry.files.items():
        assert re.fullmatch("[0-9a-f]{64}", sha256)
        assert sum(file.stat().st_size for file in folder.glob(pattern)) == size
    assert importlib.metadata.version(entry.wheel) == entry.wheel_version
    assert re.fullmatch("[0-9a-f]{64}", entry.wheel_sha256)


def test_names_are_unique_and_stand_ins_exist():
    assert all(name == entry.name for name, entry in ASSETS.items())
    assert ASSETS["minilm"].stands_in in ASSETS and ASSETS["smollm2"].stands_in in ASSETS


def test_no_package_index_is_named():
    folder = Path(registry.__file__).parent
    for file in ("registry.py", "_assets.py"):
        assert not re.search(r"pypi|pythonhosted|huggingface\.co", (folder / file).read_text())


def test_the_cache_folder_follows_the_variables(monkeypatch, tmp_path):
    monkeypatch.setenv("VISLM_CACHE", str(tmp_path))
    assert registry.cache_dir() == tmp_path
    monkeypatch.delenv("VISLM_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert registry.cache_dir() == tmp_path / "xdg" / "vislm_tutorial"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert registry.cache_dir() == Path.home() / "Library" / "Caches" / "vislm_tutorial"


def test_the_repository_address_is_read_from_the_installed_metadata(monkeypatch):
    metadata = importlib.metadata

    class Links:
        def get_all(self, name):
            return ["Homepage, https://example.org", "Repository, https://example.org/r"]

    monkeypatch.setattr(metadata, "metadata", lambda name: Links())
    assert registry.REPOSITORY == "https://example.org/r"

    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "metadata", absent)
    with pytest.raises(AssetError, match="vislm-tutorial is not installed.*pip install -e"):
        _ = registry.REPOSITORY
