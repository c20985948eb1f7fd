"""An agent that speaks TLS: certificates for it, and its environment."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an authority: ca.pem, ca.key; and signed by it, for localhost: agent.pem, agent.key."""
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("needs openssl")
    directory = tmp_path_factory.mktemp("tls")
    new = (openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    for name, how in {"ca": (), "agent": signed}.items():
        files = ("-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")
        subprocess.run([*new, *how, *files], cwd=directory, check=True, capture_output=True)
    return directory


def secured(certificates: Path, **more: str) -> Mapping[str, str]:
    """The environment of an agent that speaks TLS."""
    variables = {
        "ENABLED": "true",
        "KEY_FILE": str(certificates / "agent.key"),
        "CERT_FILE": str(certificates / "agent.pem"),
        "CA_FILE": str(certificates / "ca.pem"),
        **more,
    }
    return os.environ | {f"LIBPROCESS_SSL_{name}": value for name, value in variables.items()}
