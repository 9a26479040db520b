"""An S3 server for the tests: moto's, with one bucket, at any free port, which it prints, until standard input ends.

moto compares an ETag and stores an object in two steps, so here it has one request at a time: as a real service, it then lets one
of two conditional requests win.
"""

import os
import sys
import threading

from moto.moto_server.werkzeug_app import create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

application = create_backend_app("s3")
turn = threading.Lock()


def one_at_a_time(environ, start_response):
    with turn:
        return list(application(environ, start_response))


class Quiet(WSGIRequestHandler):
    def log_request(self, *_):
        pass


def end_with_parent():
    sys.stdin.read()
    os._exit(0)


application.test_client().put("/" + sys.argv[1])
server = make_server("127.0.0.1", 0, one_at_a_time, threaded=True, request_handler=Quiet)
threading.Thread(target=end_with_parent, daemon=True).start()
print(server.port, flush=True)
server.serve_forever()
