"""gunicorn: an ASGI application, its slow work in a dirty worker.

https://gunicorn.org/dirty/
"""

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from gunicorn.dirty import DirtyApp, get_dirty_client_async

from demo.tasks import factorials

app = FastAPI()


class Factorials(DirtyApp):
    def compute(self, n: int) -> float:
        return factorials(n)


@app.get("/fast")
async def fast(id: int) -> PlainTextResponse:
    return PlainTextResponse(f"fast result {id}")


@app.get("/slow")
async def slow(id: int, n: int = 2000) -> PlainTextResponse:
    client = await get_dirty_client_async()
    seconds = await client.execute_async(f"{__name__}:Factorials", "compute", n)
    return PlainTextResponse(f"slow result {id} <--- {seconds:.3f} s")
