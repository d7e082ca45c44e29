"""A source of data on loopback that counts what it is asked for."""

from __future__ import annotations

import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Source:
    """An HTTP server that answers every path with JSON, and knows how often each was asked for.

    Examples
    --------
    >>> import urllib.request
    >>> with Source() as source:
    ...     urllib.request.urlopen(f"{source.url}/a").read()
    ...     source.asked
    b'[{"path": "/a"}]'
    Counter({'/a': 1})
    """

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        source, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with lock:
                    source.asked[self.path] += 1
                body = json.dumps([{"path": self.path}]).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Source:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
