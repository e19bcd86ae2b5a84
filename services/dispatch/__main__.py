"""One worker of dispatch."""

from services.dispatch import api, tick
from services.dispatch.app import SERVICE
from services.kit.run import main

if __name__ == "__main__":
    main(SERVICE, routers=[api.router], workers=[tick.run])
