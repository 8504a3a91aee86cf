"""A small HTTP service as Kiln runs it: Python and one package."""

import os
import platform

from bottle import Bottle, run

app = Bottle()


@app.get("/")
def hello():
    return {
        "service": "hello-python",
        "message": os.environ.get("GREETING", "Hello from a microVM"),
        "hostname": platform.node(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


@app.get("/healthz")
def health():
    return "ok\n"


run(app, host="0.0.0.0", port=int(os.environ["PORT"]), quiet=True)
