"""Certificates for one test session: an authority of its own, a server's and a client's.

Made with the openssl command, which every machine that runs RabbitMQ has.
"""

import functools
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

CLIENT = "amqpjobs-client"
"""The common name of the client's certificate: the user that RabbitMQ takes it for."""


@dataclass(frozen=True)
class Certificates:
    """Where the files are."""

    folder: Path

    @property
    def authority(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def server(self) -> tuple[Path, Path]:
        """Certificate and key."""
        return self.folder / "server.pem", self.folder / "server.key"

    @property
    def client(self) -> tuple[Path, Path]:
        """Certificate and key."""
        return self.folder / "client.pem", self.folder / "client.key"


@functools.cache
def certificates() -> Certificates:
    """Those of this session; valid for two days."""
    made = Certificates(Path(tempfile.mkdtemp(prefix="amqpjobs-certificates-")))
    new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    ca = made.folder / "ca.key"
    _openssl(
        *new, "-x509", "-subj", "/CN=amqpjobs test authority", "-keyout", ca,
        "-out", made.authority, "-addext", "keyUsage=critical,keyCertSign,cRLSign",
    )  # fmt: skip
    names = "subjectAltName=IP:127.0.0.1,DNS:localhost"
    for name, (pem, key), extension in (
        ("localhost", made.server, names),
        (CLIENT, made.client, "extendedKeyUsage=clientAuth"),
    ):
        request, extensions = pem.with_suffix(".csr"), pem.with_suffix(".ext")
        extensions.write_text(extension + "\n")
        _openssl(*new[:-2], "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        _openssl(
            "x509", "-req", "-in", request, "-CA", made.authority, "-CAkey", ca,
            "-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", pem,
        )  # fmt: skip
    for path in made.folder.iterdir():
        path.chmod(0o644)  # RabbitMQ reads them as a user of its own
    made.folder.chmod(0o755)
    return made


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
