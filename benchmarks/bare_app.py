"""The floor of the latency benchmark: a FastAPI app that answers a fixed JSON of a feed's size."""

from fastapi import FastAPI
from starlette.responses import Response

app = FastAPI()
_ANSWER = (
    b'{"level":"full","items":['
    + b",".join(b'{"position":%d,"post_id":"post%d","value":0.5}' % (k, k) for k in range(20))
    + b"]}"
)


@app.get("/feed")
async def feed() -> Response:
    """Answer the fixed body."""
    return Response(_ANSWER, media_type="application/json")
