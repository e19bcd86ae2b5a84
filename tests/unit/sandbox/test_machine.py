"""A report names its versions, also in a clone that was never installed as a package."""

from importlib import metadata

import pytest

import services
from services.sandbox import machine


def test_our_own_version_needs_no_installed_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "yaoda":
            raise metadata.PackageNotFoundError(name)
        return metadata.version(name)

    monkeypatch.setattr(machine, "version", version)

    assert machine.versions()["yaoda"] == services.__version__
