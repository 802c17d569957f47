"""An S3 server for tests: moto on a free port of 127.0.0.1, which it prints, one request at a time.

As it is shipped, moto answers from many threads and now and then loses an update.
"""
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app))
print(server.port, flush=True)
server.serve_forever()
