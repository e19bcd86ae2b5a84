"""`python -m services.ops`."""

from services.kit.run import main
from services.ops import api
from services.ops.app import SERVICE

if __name__ == "__main__":
    main(SERVICE, routers=[api.router])
