"""The upper limit for any server on aiohttp: read the body, and return the same bytes whatever the body is.

python -m testbed.admission.fixed PORT CERTIFICATE KEY
"""

import asyncio
import ssl
import sys

import uvloop
from aiohttp import web

ANSWER = (
    b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":'
    b'{"uid":"705ab4f5-6393-11e8-b7cc-42010a800002","allowed":true}}'
)


async def handle(request: web.Request) -> web.Response:
    """Return the fixed answer."""
    await request.read()
    return web.Response(body=ANSWER, content_type="application/json")


async def serve(port: int, certificate: str, key: str) -> None:
    """Serve over TLS until the process is killed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    application = web.Application(client_max_size=7 * 2**20)
    application.router.add_post("/validate", handle)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context, backlog=1024).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), *sys.argv[2:]))
