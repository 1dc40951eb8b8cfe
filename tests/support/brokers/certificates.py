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

LOCALHOST = "subjectAltName=IP:127.0.0.1,DNS:localhost"

NEW = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


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

    def issued(
        self, name: str, extension: str, *, days: int = 2, by: tuple[Path, Path] | None = None
    ) -> tuple[Path, Path]:
        """Another certificate and its key.

        Args:
            name: its common name, and what its files are called.
            extension: such as ``subjectAltName=DNS:localhost``.
            days: that it is valid for; -1 for one that expired yesterday.
            by: the certificate and the key that sign it; this authority's if none.
        """
        pem, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        signer, secret = by or (self.authority, self.folder / "ca.key")
        request, extensions = pem.with_suffix(".csr"), pem.with_suffix(".ext")
        extensions.write_text(extension + "\n")
        _openssl(*NEW, "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        _openssl(
            "x509", "-req", "-in", request, "-CA", signer, "-CAkey", secret, "-CAcreateserial",
            "-days", days, "-extfile", extensions, "-out", pem,
        )  # fmt: skip
        for path in (pem, key):
            path.chmod(0o644)  # RabbitMQ reads them as a user of its own
        return pem, key


@functools.cache
def stranger() -> tuple[Path, Path]:
    """Another authority, which nobody knows: its certificate and key."""
    folder = certificates().folder
    pem, key = folder / "stranger.pem", folder / "stranger.key"
    _openssl(
        *NEW, "-x509", "-days", "2", "-subj", "/CN=another authority", "-keyout", key, "-out", pem
    )
    return pem, key


@functools.cache
def certificates() -> Certificates:
    """Those of this session; valid for two days."""
    made = Certificates(Path(tempfile.mkdtemp(prefix="amqpjobs-certificates-")))
    _openssl(
        *NEW, "-days", "2", "-x509", "-subj", "/CN=amqpjobs test authority",
        "-keyout", made.folder / "ca.key", "-out", made.authority,
        "-addext", "keyUsage=critical,keyCertSign,cRLSign",
    )  # fmt: skip
    made.authority.chmod(0o644)
    made.folder.chmod(0o755)
    made.issued("server", LOCALHOST)
    for made_as, wanted in zip(
        made.issued(CLIENT, "extendedKeyUsage=clientAuth"), made.client, strict=True
    ):
        made_as.rename(wanted)
    return made


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
