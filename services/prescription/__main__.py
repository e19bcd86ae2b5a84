"""`python -m services.prescription`: one worker of the service."""

from services.kit.run import main
from services.prescription import api
from services.prescription.app import SERVICE

if __name__ == "__main__":
    main(SERVICE, routers=[api.router])
