#!/usr/bin/env python3
"""Times and memory of a release build: start, resident memory, how soon a saved file is served, latency meanwhile.

    measure.py --binary target/x86_64-unknown-linux-gnu/release/portolan [--filter-module route_match.wasm]

Prints one line per figure with its goal. On a busy machine the times say little; it never fails a build.
"""
import argparse, asyncio, http.client, os, shutil, signal, socket, subprocess, sys, tempfile, threading, time

GATEWAY = """apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: measure}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: %d, name: http, protocol: HTTP}
    hosts: ["*"]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: origin}
spec:
  hosts: [origin.test]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1, ports: {http: %d}}]
"""
ROUTES = """apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: measure}
spec:
  hosts: ['*']
  gateways: [measure]
  http:
  - route: [{destination: {host: origin.test}}]
    headers: {response: {set: {x-generation: '%s'}}}
"""


class Origin(threading.Thread):
    """A keep-alive HTTP/1.1 server with a fixed answer."""

    def __init__(self):
        super().__init__(daemon=True)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.start()

    def run(self):
        asyncio.run(self.serve())

    async def serve(self):
        server = await asyncio.start_server(self.talk, sock=self.socket)
        await server.serve_forever()

    async def talk(self, reader, writer):
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


class Gateway:
    def __init__(self, binary, origin, cache, arguments=()):
        self.dir = tempfile.mkdtemp(prefix="portolan-measure-")
        self.config = self.dir + "/config"
        os.makedirs(self.config)
        self.port, self.admin = free_port(), free_port()
        self.put("gateway.yaml", GATEWAY % (self.port, origin))
        self.put("routes.yaml", ROUTES % 0)
        self.began = time.perf_counter()
        self.process = subprocess.Popen(
            [binary, "run", "--config", self.config, "--admin-address", f"127.0.0.1:{self.admin}", "--workers", "2", "--cache-dir", cache,
             "--drain-time", "1s", *arguments], stdout=subprocess.DEVNULL, stderr=open(self.dir + "/log", "wb"))

    def put(self, name, text):
        with open(f"{self.dir}/new", "w") as f:
            f.write(text)
        os.rename(f"{self.dir}/new", f"{self.config}/{name}")

    def get(self, port=None, path="/"):
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, dict((k.lower(), v) for k, v in answer.getheaders()), answer.read()
        finally:
            connection.close()

    def first_answer(self):
        """Milliseconds from the start of the process to the first routed request."""
        while True:
            try:
                if self.get()[0] == 200:
                    return (time.perf_counter() - self.began) * 1000
            except OSError:
                pass
            if self.process.poll() is not None:
                sys.exit("the gateway ended:\n" + open(self.dir + "/log").read()[-2000:])
            time.sleep(0.001)

    def served_after(self, done):
        """Milliseconds until `done` holds."""
        began = time.perf_counter()
        while not done():
            if time.perf_counter() - began > 30:
                return float("inf")
            time.sleep(0.001)
        return (time.perf_counter() - began) * 1000

    def memory_mib(self):
        for line in open(f"/proc/{self.process.pid}/status"):
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        shutil.rmtree(self.dir, ignore_errors=True)


class Load(threading.Thread):
    """About 500 requests a second on one connection; keeps every latency and every failure."""

    def __init__(self, port, headers=None):
        super().__init__(daemon=True)
        self.port, self.headers, self.latencies, self.failures, self.ended = port, headers or {}, [], 0, False
        self.start()

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        while not self.ended:
            began = time.perf_counter()
            try:
                connection.request("GET", "/", headers=self.headers)
                answer = connection.getresponse()
                answer.read()
                self.failures += answer.status != 200
            except (OSError, http.client.HTTPException):
                self.failures += 1
                connection.close()
            self.latencies.append((time.perf_counter() - began) * 1000)
            time.sleep(max(0.0, 0.002 - (time.perf_counter() - began)))

    def take(self):
        taken, self.latencies = sorted(self.latencies), []
        return taken


def percentile(values, share):
    return values[min(len(values) - 1, int(len(values) * share))] if values else float("nan")


def line(what, value, unit, goal):
    print(f"{what:46} {value:9.1f} {unit:5} goal {goal}", flush=True)


def median(values):
    return sorted(values)[len(values) // 2]


def restamped(module, number):
    """The module with another digest: a custom section at its end."""
    content = b"\x07measure" + str(number).encode()
    return module + b"\x00" + bytes([len(content)]) + content


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--filter-module", help="a build of filters/route-match, to measure swaps with")
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    origin, cache = Origin().port, tempfile.mkdtemp(prefix="portolan-measure-modules-")
    starts = []
    for number in range(6):
        gateway = Gateway(args.binary, origin, cache)
        starts.append(gateway.first_answer())
        if number < 5:
            gateway.stop()
    line("start to first routed request, empty cache", starts[0], "ms", "-")
    line("start to first routed request, cached, median", median(starts[1:]), "ms", "< 150")
    for _ in range(2000):
        gateway.get()
    line("resident memory, 2 workers, after 2,000 requests", gateway.memory_mib(), "MiB", "< 60")
    load = Load(gateway.port)
    time.sleep(3)
    quiet, times = load.take(), []
    for number in range(1, args.rounds + 1):
        gateway.put("routes.yaml", ROUTES % number)
        times.append(gateway.served_after(lambda: gateway.get()[1].get("x-generation") == str(number)))
        time.sleep(0.3)
    busy = load.take()
    line("saved YAML to served, median", median(times), "ms", "< 300")
    line("saved YAML to served, worst", max(times), "ms", "< 300")
    line("p99 without reloads", percentile(quiet, 0.99), "ms", "-")
    line("p99 during reloads", percentile(busy, 0.99), "ms", "< +5")
    load.ended = True
    load.join()
    line("failed requests", load.failures, "", "0")
    gateway.stop()
    if args.filter_module:
        swaps(args, origin, cache)
    shutil.rmtree(cache, ignore_errors=True)


def swaps(args, origin, cache):
    import hashlib
    folder = tempfile.mkdtemp(prefix="portolan-measure-filter-")
    path, module = folder + "/route-match.wasm", open(args.filter_module, "rb").read()
    shutil.copy(args.filter_module, path)
    gateway = Gateway(args.binary, origin, cache, ["--filter", f"route-match={path}"])
    gateway.first_answer()
    load, times = Load(gateway.port), []
    time.sleep(2)
    quiet = load.take()
    for number in range(args.rounds):
        new = restamped(module, time.time_ns())
        with open(folder + "/new", "wb") as f:
            f.write(new)
        digest = hashlib.sha256(new).hexdigest().encode()
        os.rename(folder + "/new", path)
        times.append(gateway.served_after(lambda: digest in gateway.get(gateway.admin, "/config_dump")[2]))
        time.sleep(0.3)
    busy = load.take()
    load.ended = True
    load.join()
    line("saved filter to served, median", median(times), "ms", "< 1000")
    line("saved filter to served, worst", max(times), "ms", "< 1000")
    line("p99 without swaps", percentile(quiet, 0.99), "ms", "-")
    line("p99 during swaps", percentile(busy, 0.99), "ms", "< +5")
    line("failed requests", load.failures, "", "0")
    gateway.stop()
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
