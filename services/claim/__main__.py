"""`python -m services.claim`: one worker."""

from services.claim import api, sales
from services.claim.app import SERVICE
from services.kit.run import main

if __name__ == "__main__":
    main(SERVICE, routers=[api.router], workers=[sales.run])
