"""A token server, whose tokens Debian's `docker-registry` accepts.

Source: https://distribution.github.io/distribution/spec/auth/jwt/
"""

import base64
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from testbed.controlplane.certificates import Authority
from testbed.registries.server import PASSWORD, USER

SERVICE, ISSUER = "test-registry", "test-tokens"


@dataclass
class TokenServer:
    """A server whose tokens allow any repository to a client with PASSWORD, else those whose names begin with `public`.

    Args:
        authority: issues the certificate that signs.
        requests: the queries of the requests so far.
        logins: the header `Authorization` of each request.
    """

    authority: Authority
    requests: list[dict[str, str]] = field(default_factory=list)
    logins: list[str | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        pair = self.authority.server(["tokens"], [])
        key = load_pem_private_key(pair.key, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key
        self._certificate = pair.certificate

    def configuration(self, directory: Path, realm: str) -> dict[str, str]:
        """Return the registry's setting for it; its realm is this URL."""
        bundle = directory / "tokens.pem"
        bundle.write_bytes(self.authority.pem)
        return {"realm": realm, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": str(bundle)}

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one request."""
        form = await request.post() if request.method == "POST" else {}
        query = {**request.query, **{name: str(value) for name, value in form.items()}}
        self.requests.append(query)
        known = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        given = request.headers.get("Authorization")
        self.logins.append(given)
        if (given not in {None, known}) or query.get("refresh_token", PASSWORD) != PASSWORD:
            return web.json_response({"errors": []}, status=401)
        trusted = given == known or query.get("refresh_token") == PASSWORD
        _, name, actions = query["scope"].split(":")
        allowed = trusted or name.startswith("public")
        return web.json_response({"token": self.token(name, actions) if allowed else self.token(name, "")})

    def token(self, repository: str, actions: str = "pull,push") -> str:
        """Return a signed token for a repository."""
        access = [{"type": "repository", "name": repository, "actions": actions.split(",")}] if actions else []
        certificate = x509.load_pem_x509_certificate(self._certificate).public_bytes(Encoding.DER)
        header = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(certificate).decode()]}
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "sub": USER,
            "aud": SERVICE,
            "exp": now + 300,
            "nbf": now - 300,
            "iat": now,
            "jti": "test",
            "access": access,
        }
        signed = f"{_encode(json.dumps(header).encode())}.{_encode(json.dumps(claims).encode())}"
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_encode(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
