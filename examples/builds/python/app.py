"""A page that greets, and a check that asks for it."""

import sys

from flask import Flask

app = Flask(__name__)


@app.get("/<name>")
def greet(name):
    return f"hello {name}\n"


if __name__ == "__main__":
    if "--check" in sys.argv:
        print(app.test_client().get("/world").text, end="")
    else:
        app.run(host="0.0.0.0", port=8000)
