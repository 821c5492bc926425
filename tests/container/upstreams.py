"""Two HTTP servers that answer with their version; `/slow` takes a second. Prints their ports on one line.

Writes a file named by the environment variable SLOW_MARK when a slow request arrived."""
import http.server
import os
import threading
import time


def server(version):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            if self.path == "/slow":
                open(os.environ["SLOW_MARK"], "w").close()
                time.sleep(1)
            body = f"{version}\n".encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=made.serve_forever).start()
    return made.server_port


print(server("v1"), server("v2"), flush=True)
