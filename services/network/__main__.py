"""One worker of network."""

from services.kit.run import main
from services.network import api
from services.network.app import SERVICE

if __name__ == "__main__":
    main(SERVICE, routers=[api.router])
