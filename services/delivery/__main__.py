"""`python -m services.delivery`: one worker of the service."""

from services.delivery import api
from services.delivery.app import SERVICE
from services.kit.run import main

if __name__ == "__main__":
    main(SERVICE, routers=[api.router])
