"""An S3 server in a process of its own, which delays and counts its requests."""

from __future__ import annotations

import json
import multiprocessing
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

COUNTS = "/requests-so-far"


@dataclass(frozen=True)
class ObjectStore:
    """A running server."""

    port: int

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of ``s3fs.S3FileSystem``."""
        return {
            "endpoint_url": f"http://127.0.0.1:{self.port}",
            "key": "any",
            "secret": "any",
            "client_kwargs": {"region_name": "us-west-2"},
        }

    def requests(self, method: str = "GET") -> int:
        """Number of requests that the server has received."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{COUNTS}") as answer:
            return int(json.load(answer).get(method, 0))


@contextmanager
def object_store(latency: float) -> Iterator[ObjectStore]:
    """Runs a server.

    Args:
        latency: seconds that each request takes longer.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(latency, there), daemon=True)
    process.start()
    there.close()  # so that `recv` fails if the process ends
    try:
        yield ObjectStore(here.recv())
    finally:
        process.terminate()
        process.join()


def _serve(latency: float, connection: Connection) -> None:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    quiet = type("Quiet", (WSGIRequestHandler,), {"protocol_version": "HTTP/1.1", "log": _nothing})
    app = DomainDispatcherApplication(create_backend_app)
    counts: Counter[str] = Counter()

    def slow(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"] == COUNTS:
            start_response("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(counts).encode()]
        counts[environ["REQUEST_METHOD"]] += 1
        time.sleep(latency)
        return app(environ, start_response)

    server = make_server("127.0.0.1", 0, slow, threaded=True, request_handler=quiet)
    connection.send(server.port)
    server.serve_forever()


def _nothing(*_: Any) -> None:
    """Logs no request."""
