"""FastAPI: a plain function runs in a thread of the pool.

https://fastapi.tiangolo.com/async/
"""

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

from demo.tasks import factorials

app = FastAPI()


@app.get("/fast")
async def fast(id: int) -> PlainTextResponse:
    return PlainTextResponse(f"fast result {id}")


@app.get("/slow")
def slow(id: int, n: int = 2000) -> PlainTextResponse:
    return PlainTextResponse(f"slow result {id} <--- {factorials(n):.3f} s")
