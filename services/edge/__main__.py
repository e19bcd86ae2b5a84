"""`python -m services.edge`: the one public port."""

import logging

import uvicorn

from services.edge.proxy import Edge
from services.kit import telemetry
from services.kit.collector import keep_for_good
from services.kit.config import Settings

STOP_S_MAX = 3


def main() -> None:
    """Run until SIGTERM; open streams get a moment to end."""
    settings = Settings()
    telemetry.configure(settings, "edge")
    config = uvicorn.Config(
        Edge(settings.addresses),
        host=settings.http_host,
        port=settings.http_port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        log_level=logging.WARNING,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=STOP_S_MAX,
    )
    keep_for_good()
    uvicorn.Server(config).run()


if __name__ == "__main__":
    main()
