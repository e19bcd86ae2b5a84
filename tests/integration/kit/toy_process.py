"""The toy service as a real worker: `python -m tests.integration.kit.toy_process`."""

from services.kit.run import main
from tests.integration.kit import toy

if __name__ == "__main__":
    main(toy.service())
