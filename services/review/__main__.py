"""`python -m services.review`: one worker of the service."""

from services.kit.run import main
from services.review import api, support_api
from services.review.app import SERVICE

if __name__ == "__main__":
    main(SERVICE, routers=[api.router, support_api.router])
