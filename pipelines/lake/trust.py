"""The machine's certificate authorities as a Java trust store: the packaged Java knows only its own."""

import hashlib
import os
import re
import ssl
import struct
from pathlib import Path

# Where Linux distributions and macOS keep the bundle that their own tools trust.
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_SEAL = "changeit".encode("utf-16-be") + b"Mighty Aphrodite"  # the format's words: it guards nothing
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def machine_authorities() -> list[bytes]:
    """The certificates (DER) of $SSL_CERT_FILE or the machine's usual bundle; empty where it has none."""
    for path in (os.environ.get("SSL_CERT_FILE"), ssl.get_default_verify_paths().cafile, *_BUNDLES):
        if path and Path(path).is_file():
            return [ssl.PEM_cert_to_DER_cert(block) for block in _PEM.findall(Path(path).read_text("utf-8"))]
    return []


def trust_store(certificates: list[bytes]) -> bytes:
    """A JKS key store of trusted certificates (DER), sealed with the password that Java's own has."""
    # JKS: magic, version 2, count; then tag 2 (trusted), alias, milliseconds, type and certificate for each;
    # then the SHA-1 of the seal and all of the above.
    store = struct.pack(">III", 0xFEEDFEED, 2, len(certificates))
    for number, certificate in enumerate(certificates):
        store += struct.pack(">I", 2) + _text(str(number)) + struct.pack(">q", 0) + _text("X.509")
        store += struct.pack(">I", len(certificate)) + certificate
    return store + hashlib.sha1(_SEAL + store, usedforsecurity=False).digest()


def _text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack(">H", len(encoded)) + encoded
