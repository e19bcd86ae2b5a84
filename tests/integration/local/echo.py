"""A program as small as a supervised one can be: it is ready, and ends when told."""

import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Answer(BaseHTTPRequestHandler):
    """Says 200 to everything."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    HTTPServer(("127.0.0.1", int(os.environ["YAODA_HTTP_PORT"])), Answer).serve_forever()


if __name__ == "__main__":
    main()
