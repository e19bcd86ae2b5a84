"""The one faust agent of this service: hands raw batches to the kit, nothing else."""

import faust
from faust.types import StreamT

from services.kit.stream import BatchLoop, input_topic


def register(app: faust.App, loop: BatchLoop) -> None:
    """Subscribe to this service's inputs of the one table."""

    @app.agent(input_topic(app, "dispatch"), name="dispatch.inputs", concurrency=1)
    async def inputs(stream: StreamT[bytes]) -> None:
        await loop.run(stream)
