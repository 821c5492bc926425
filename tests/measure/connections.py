#!/usr/bin/env python3
"""Memory of a release build under many idle connections and under large bodies.

    connections.py --binary target/x86_64-unknown-linux-gnu/release/portolan [--connections 10000] [--mebibytes 1024]

Prints one line per figure with its goal; needs `ulimit -n` above the number of connections.
"""
import argparse, http.client, shutil, socket, sys, tempfile, threading, time

from measure import Gateway, line

PIECE = 256 * 1024
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
# Static table: GET, /, http; then `:authority: a.test` as a literal.
HEAD = b"\x82\x84\x86\x01\x06a.test"
GET2 = len(HEAD).to_bytes(3, "big") + b"\x01\x05\x00\x00\x00\x01" + HEAD


class Origin(threading.Thread):
    """`GET /down/N` gets N mebibytes; every other request is read to its end and gets six bytes."""

    def __init__(self):
        super().__init__(daemon=True)
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self.socket.getsockname()[1]
        self.start()

    def run(self):
        while True:
            threading.Thread(target=self.talk, args=(self.socket.accept()[0],), daemon=True).start()

    def talk(self, client):
        # An answer in two pieces would wait for the gateway's delayed acknowledgement.
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        file = client.makefile("rb", 1 << 20)
        while request := file.readline().decode():
            length = 0
            while (field := file.readline().strip().lower()) != b"":
                if field.startswith(b"content-length:"):
                    length = int(field.split(b":")[1])
            while length:
                piece = file.read(min(length, PIECE))
                if not piece:
                    return
                length -= len(piece)
            path = request.split()[1]
            size = int(path.rsplit("/", 1)[1]) << 20 if path.startswith("/down/") else 0
            client.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (size or 6))
            if not size:
                client.sendall(b"hello\n")
            for _ in range(size // PIECE):
                client.sendall(bytes(PIECE))


class Peak(threading.Thread):
    """The most memory that the gateway has held since the start of the watch."""

    def __init__(self, gateway):
        super().__init__(daemon=True)
        self.gateway, self.begin, self.ended = gateway, gateway.memory_mib(), threading.Event()
        self.most = self.begin
        self.start()

    def run(self):
        while not self.ended.wait(0.02):
            self.most = max(self.most, self.gateway.memory_mib())

    def growth(self):
        self.ended.set()
        self.join()
        return self.most - self.begin


def read_until(client, end):
    got = b""
    while end not in got:
        piece = client.recv(4096)
        if not piece:
            sys.exit(f"closed after {got!r}")
        got += piece
    return got


def idle_http1(port):
    client = socket.create_connection(("127.0.0.1", port))
    client.sendall(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")
    read_until(client, b"hello\n")
    return client


def idle_http2(port):
    client = socket.create_connection(("127.0.0.1", port))
    client.sendall(PREFACE + GET2)
    read_until(client, b"hello\n")
    return client


def idle(binary, origin, cache, count, what, connect, goal):
    gateway = Gateway(binary, origin, cache)
    gateway.first_answer()
    for _ in range(200):
        connect(gateway.port).close()
    before = gateway.memory_mib()
    held = [connect(gateway.port) for _ in range(count)]
    # Idle ones are parked after a second, at the next sweep.
    time.sleep(2)
    after = gateway.memory_mib()
    line(f"{count} idle {what} connections, all memory", after, "MiB", goal)
    line(f"  of which each", (after - before) * 1024 / count, "KiB", "-")
    for client in held:
        client.close()
    gateway.stop()


def download(port, size, pause):
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    client.request("GET", f"/down/{size}")
    answer, got = client.getresponse(), 0
    while piece := answer.read(1 << 20):
        got += len(piece)
        time.sleep(pause)
    assert got == size << 20, got


def upload(port, size, pause):
    client = socket.create_connection(("127.0.0.1", port))
    client.sendall(b"PUT /up HTTP/1.1\r\nhost: a.test\r\ncontent-length: %d\r\n\r\n" % (size << 20))
    for _ in range(size):
        client.sendall(bytes(1 << 20))
        time.sleep(pause)
    assert read_until(client, b"\r\n\r\n").startswith(b"HTTP/1.1 200"), "an answer"


def bodies(binary, origin, cache, size):
    gateway = Gateway(binary, origin, cache)
    gateway.first_answer()
    for _ in range(500):
        gateway.get()
    for what, carry, pause in [
        ("down, fast", download, 0), ("down, slow reader", download, 0.01), ("up, fast", upload, 0), ("up, slow", upload, 0.01)
    ]:
        peak, began = Peak(gateway), time.perf_counter()
        carry(gateway.port, size, pause)
        seconds = time.perf_counter() - began
        line(f"{size} MiB {what}: memory grown by", peak.growth(), "MiB", "< 20")
        line("  at", size / seconds, "MiB/s", "-")
    gateway.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--mebibytes", type=int, default=1024)
    args = parser.parse_args()
    origin, cache = Origin().port, tempfile.mkdtemp(prefix="portolan-measure-modules-")
    idle(args.binary, origin, cache, args.connections, "HTTP/1", idle_http1, "< 120")
    idle(args.binary, origin, cache, args.connections, "HTTP/2", idle_http2, "< 300")
    bodies(args.binary, origin, cache, args.mebibytes)
    shutil.rmtree(cache, ignore_errors=True)


if __name__ == "__main__":
    main()
