"""Names of images as Docker reads them, credentials, platforms, and configs of images."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from mesocosm.errors import FlagError
from mesocosm.images import manifest
from mesocosm.images.credentials import Credentials, DockerConfig, host_of, read_docker_config
from mesocosm.images.errors import ImageError
from mesocosm.images.manifest import Descriptor, Platform
from mesocosm.images.reference import LocalReference, Reference, parse
from mesocosm.images.settings import ImageSettings
from mesocosm.images.sources.selection import Sources

DIGEST = f"sha256:{'a' * 64}"


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "digest", "full"),
    [
        ("busybox", "docker.io", "library/busybox", None, None, "docker.io/library/busybox:latest"),
        ("library/busybox", "docker.io", "library/busybox", None, None, "docker.io/library/busybox:latest"),
        ("library/busybox:tag", "docker.io", "library/busybox", "tag", None, "docker.io/library/busybox:tag"),
        (f"busybox@{DIGEST}", "docker.io", "library/busybox", None, DIGEST, f"docker.io/library/busybox@{DIGEST}"),
        (f"a/b:t@{DIGEST}", "docker.io", "a/b", "t", DIGEST, f"docker.io/a/b:t@{DIGEST}"),
        ("index.docker.io/busybox", "docker.io", "library/busybox", None, None, "docker.io/library/busybox:latest"),
        ("registry.io/library/busybox", "registry.io", "library/busybox", None, None, None),
        ("registry.io:80/library/busybox:tag", "registry.io:80", "library/busybox", "tag", None, None),
        (f"registry.io:80/library/busybox@{DIGEST}", "registry.io:80", "library/busybox", None, DIGEST, None),
        ("localhost/a", "localhost", "a", None, None, "localhost/a:latest"),
        ("localhost:5000/a/b_c/d--e", "localhost:5000", "a/b_c/d--e", None, None, None),
        ("[::1]:5000/a", "[::1]:5000", "a", None, None, None),
        ("UPPER/a", "UPPER", "a", None, None, "UPPER/a:latest"),
        ("a.b:5", "docker.io", "library/a.b", "5", None, "docker.io/library/a.b:5"),
    ],
)
def test_names_are_read_as_docker_does(
    text: str, registry: str, repository: str, tag: str | None, digest: str | None, full: str | None
) -> None:
    found = parse(text)
    assert found == Reference(registry, repository, tag, digest)
    assert str(found) == (full or (text if tag or digest else f"{text}:latest"))
    assert parse(str(found)) in (found, Reference(registry, repository, tag or "latest", digest))


def test_names_without_a_registry_are_of_the_one_that_is_set() -> None:
    assert str(parse("busybox", "localhost:5000")) == "localhost:5000/busybox:latest"
    assert str(Sources(ImageSettings(registry="http://localhost:5000")).find("a/b").name) == "localhost:5000/a/b:latest"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "no name of an image"),
        ("Busybox", "write it in lower case"),
        ("a b", "no name of an image"),
        ("../etc", "no name of a registry"),
        ("a/../b", "no name of an image"),
        ("a//b", "no name of an image"),
        ("-a", "no name of an image"),
        ("a:", "'' is no tag"),
        ("a:b c", "is no tag"),
        (f"a:{'t' * 129}", "is no tag"),
        ("a@sha256:1", "is no digest"),
        ("a@md5:d41d8cd98f00b204e9800998ecf8427e", "is no digest"),
        ("a" * 300, "at most 255 characters"),
        ("f" * 64, "is an id, and no name"),
        ("host:99999/a", "no name of a registry"),
        ("-host.x/a", "no name of a registry"),
        ("hdfs://host/images", "images do not come by hdfs://; put the archives in a directory"),
        ("https://quay.io/a", "write the name without it"),
        ("docker-archive:", "names no file"),
    ],
)
def test_names_that_are_none(text: str, expected: str) -> None:
    with pytest.raises(ImageError, match=expected):
        parse(text)


def test_names_of_files() -> None:
    assert parse("docker-archive:/a/b.tar:app:1") == LocalReference("docker-archive", Path("/a/b.tar"), "app:1")
    assert parse("oci:/layout") == LocalReference("oci", Path("/layout"), None)
    assert parse("oci-archive:/a.tar:1") == LocalReference("oci-archive", Path("/a.tar"), "1")
    assert str(parse("oci:./layout:1")) == f"oci:{Path.cwd()}/layout:1"
    assert parse("oci:1") == Reference("docker.io", "library/oci", "1"), "an image of that name"


def test_the_registry_may_not_be_hdfs() -> None:
    with pytest.raises(FlagError, match="--docker_registry: nothing here reads HDFS; copy the archives"):
        Sources(ImageSettings(registry="hdfs://localhost:8020/archives"))


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_credentials_of_a_docker_config() -> None:
    config = DockerConfig(
        {
            "auths": {
                "https://index.docker.io/v1/": {"auth": encoded("user:pass:word"), "email": "user@example.com"},
                "localhost:5000": {"username": "a", "password": "b"},
                "https://192.168.0.1:5050": {"auth": encoded("ip:address")},
                "quay.io": {"identitytoken": "token"},
                "empty.io": {},
            },
            "HttpHeaders": {"User-Agent": "Docker-Client/1.10.2 (linux)"},
        }
    )
    assert config.credentials("docker.io") == Credentials("user", "pass:word")
    assert config.credentials("localhost:5000") == Credentials("a", "b")
    assert config.credentials("192.168.0.1:5050") == Credentials("ip", "address")
    assert config.credentials("quay.io") == Credentials(identity_token="token")
    assert config.credentials("empty.io") is None
    assert config.credentials("other.io") is None
    assert "pass" not in repr(config.credentials("docker.io"))


def test_credentials_of_an_old_dockercfg() -> None:
    config = DockerConfig({"quay.io": {"auth": encoded("quay:test"), "email": "user@example.com"}})
    assert config.credentials("quay.io") == Credentials("quay", "test")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"credHelpers": {"docker.io": "secretservice"}}, "kept by a helper program, and none is run; put them into"),
        ({"credsStore": "desktop", "auths": {"https://index.docker.io/v1/": {}}}, "kept by a helper program"),
        ({"auths": {"docker.io": {"auth": "%%%"}}}, "makes no sense; it is base64 of NAME:PASSWORD"),
        ({"auths": {"docker.io": {"auth": encoded("nocolon")}}}, "makes no sense"),
        ({"auths": {"docker.io": {"auth": 1}}}, "no proper credentials"),
        ({"auths": {"docker.io": "text"}}, "no proper credentials"),
    ],
)
def test_credentials_that_cannot_be_had(content: dict[str, object], expected: str) -> None:
    config = DockerConfig(content)
    assert config.credentials("quay.io") is None
    with pytest.raises(ImageError, match=expected):
        config.credentials("docker.io")


def test_the_docker_config_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_docker_config() is None
    with pytest.raises(FlagError, match=r"--docker-config: there is no .*/none"):
        read_docker_config(tmp_path / "none")
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker/config.json").write_text('{"auths": {"a": {}}}')
    assert read_docker_config() == {"auths": {"a": {}}}
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    for content, reason in (("{", "is no JSON"), ("[]", "has no JSON object in it")):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(FlagError, match=f"the Docker config {tmp_path}/config.json {reason}"):
            read_docker_config()


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("https://registry.example.com/v1/", "registry.example.com"),
        ("http://registry.example.com/v1/", "registry.example.com"),
        ("registry.example.com", "registry.example.com"),
        ("registry.example.com/v1/", "registry.example.com"),
        ("https://localhost:8000/v1/", "localhost:8000"),
        ("localhost:8000/v1/", "localhost:8000"),
        ("https://index.docker.io/v1/", "docker.io"),
    ],
)
def test_hosts_of_credentials(name: str, host: str) -> None:
    assert host_of(name) == host


def descriptor(name: str, platform: Platform | None) -> Descriptor:
    return Descriptor(f"sha256:{name * 64}", 1, platform=platform)


def test_the_platform_chooses_among_images() -> None:
    amd64, arm = Platform("linux", "amd64"), Platform("linux", "arm", "v7")
    attestation = descriptor("a", Platform("unknown", "unknown"))
    images = (attestation, descriptor("b", arm), descriptor("c", amd64), descriptor("d", None))
    assert manifest.choose(images, [amd64]) == images[2]
    assert manifest.choose(images, [Platform("linux", "arm", "v8"), arm]) == images[1]
    assert manifest.choose(images, [Platform("linux", "s390x")]) == images[3], "it does not say what it is for"
    with pytest.raises(ImageError, match=r"there is no image for linux/s390x; there is linux/amd64, linux/arm/v7$"):
        manifest.choose(images[:3], [Platform("linux", "s390x")])
    assert manifest.host_platforms()[0].os == "linux"


def test_manifests() -> None:
    """Of Docker, schema 2."""
    data = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "size": 7023, "digest": DIGEST},
        "layers": [
            {"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": 32654, "digest": DIGEST},
        ],
    }
    found = manifest.parse(json.dumps(data).encode())
    assert isinstance(found, manifest.Manifest)
    assert (found.config.size, found.layers[0].size, found.layers[0].digest) == (7023, 32654, DIGEST)
    with pytest.raises(ImageError, match="has no layers"):
        manifest.parse(json.dumps(data | {"layers": []}).encode())
    for broken in ({"config": {}}, {"layers": [{"digest": "sha256:x", "size": 1}]}, {"layers": [{"digest": DIGEST}]}):
        with pytest.raises(ImageError, match=r"makes no sense|is no digest"):
            manifest.parse(json.dumps(data | broken).encode())
    negative = data["layers"][0] | {"size": -1}  # type: ignore[index]
    with pytest.raises(ImageError, match="negative size"):
        manifest.parse(json.dumps(data | {"layers": [negative]}).encode())


def test_indexes() -> None:
    data = {
        "schemaVersion": 2,
        "manifests": [
            {
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "size": 7143,
                "digest": DIGEST,
                "platform": {"architecture": "ppc64le", "os": "linux", "os.version": "1", "variant": "v1"},
                "annotations": {"org.opencontainers.image.ref.name": "v1.0"},
            }
        ],
        "annotations": {"com.example.key1": "value1"},
    }
    found = manifest.parse(json.dumps(data).encode())
    assert isinstance(found, manifest.Index)
    assert found.manifests[0].platform == Platform("linux", "ppc64le", "v1")
    assert found.manifests[0].annotations == {"org.opencontainers.image.ref.name": "v1.0"}


def test_configs() -> None:
    data = {
        "created": "2015-10-31T22:22:56.015925234Z",
        "architecture": "arm",
        "variant": "v7",
        "os": "linux",
        "config": {
            "User": "alice",
            "ExposedPorts": {"8080/tcp": {}},
            "Env": ["PATH=/usr/bin", "FOO=oci_is_a"],
            "Entrypoint": ["/bin/my-app-binary"],
            "Cmd": ["--foreground"],
            "Volumes": {"/var/job-result-data": {}},
            "WorkingDir": "/home/alice",
            "Labels": {"com.example.a": "1"},
        },
        "rootfs": {"diff_ids": [DIGEST], "type": "layers"},
        "history": [],
    }
    found = manifest.parse_config(json.dumps(data).encode())
    assert found.diff_ids == (DIGEST,)
    assert found.config.entrypoint == ("/bin/my-app-binary",)
    assert found.config.cmd == ("--foreground",)
    assert found.config.environment == ("PATH=/usr/bin", "FOO=oci_is_a")
    assert found.config.working_directory == "/home/alice"
    assert found.config.user == "alice"
    assert found.config.labels == (("com.example.a", "1"),)
    assert found.config.created == "2015-10-31T22:22:56.015925234Z"
    assert found.config.architecture == "arm/v7"
    empty = manifest.parse_config(b'{"config": {"Entrypoint": null, "Cmd": "one word", "User": "", "WorkingDir": ""}}')
    assert (empty.config.entrypoint, empty.config.cmd) == ((), ("one word",))
    assert (empty.config.user, empty.config.working_directory, empty.diff_ids) == (None, None, ())
    with pytest.raises(ImageError, match="has a NUL in it"):
        manifest.parse_config(b'{"config": {"Env": ["A=\\u0000"]}}')
    with pytest.raises(ImageError, match="the config of the image makes no sense"):
        manifest.parse_config(b'{"config": {"Env": [1]}}')
