#!/usr/bin/env python3
"""Noise-free cost of one small keep-alive GET through the three bundled filters.

User instructions by callgrind: a run of 9,000 requests minus one of 3,000, divided by 6,000; system calls by strace;
and the same instructions for the last of 10 and the last of 10,000 rules. Compares them with the budgets of
docs/architecture.md and ends with 1 when one is broken.

Needs valgrind, strace and h2load.
"""
import argparse, asyncio, glob, os, re, shutil, signal, socket, subprocess, sys, tempfile, threading, time, urllib.request

BUDGET_INSTRUCTIONS = 40_000
BUDGET_GROWTH = 1.2
BUDGET_READS_WRITES = 2.05  # per request; the tracer itself makes a few more

# A browser's request of seven headers, and an answer of 107 bytes: what the budgets were set with.
HEADERS = ["User-Agent: Mozilla/5.0 (X11; Linux x86_64) bench", "Accept: text/html,application/json;q=0.9,*/*;q=0.8",
           "Accept-Language: en-US,en;q=0.5", "Accept-Encoding: gzip, deflate", "Cookie: session=0123456789abcdef0123456789abcdef",
           "X-Tenant: blue"]

GATEWAY = """apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: count}
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
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: origin}
spec:
  host: origin.test
  trafficPolicy:
    connectionPool: {http: {http1MaxPendingRequests: 1000, http2MaxRequests: 1000}}
    outlierDetection: {consecutive5xxErrors: 5}
---
"""


class Origin(threading.Thread):
    """A keep-alive HTTP/1.1 server with a fixed answer."""
    BODY = b'{"answer": "' + 93 * b"a" + b'"}'
    ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nserver: bench\r\ncontent-length: 107\r\n\r\n" + BODY

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
                writer.write(self.ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


def rules(count):
    text = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: count}\nspec:\n  hosts: ['*']\n  gateways: [count]\n  http:\n"
    for i in range(count):
        text += f"  - match: [{{uri: {{prefix: /p{i}/}}}}]\n    route: [{{destination: {{host: origin.test}}}}]\n"
    return text


class Gateway:
    def __init__(self, binary, origin, count, prefix):
        self.dir = tempfile.mkdtemp(prefix="portolan-count-")
        os.makedirs(self.dir + "/config")
        self.port, admin = free_port(), free_port()
        with open(self.dir + "/config/all.yaml", "w") as f:
            f.write(GATEWAY % (self.port, origin) + rules(count))
        argv = prefix(self.dir) + [binary, "run", "--config", self.dir + "/config", "--admin-address", f"127.0.0.1:{admin}",
                                   "--workers", "1", "--cache-dir", cache_dir(), "--drain-time", "0s"]
        self.process = subprocess.Popen(argv, stdout=open(self.dir + "/log", "wb"), stderr=subprocess.STDOUT)
        deadline = time.time() + 300
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{admin}/ready", timeout=5).read()
                break
            except OSError:
                if self.process.poll() is not None or time.time() > deadline:
                    sys.exit("the gateway did not start:\n" + open(self.dir + "/log").read()[-2000:])
                time.sleep(0.05)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)

    def remove(self):
        shutil.rmtree(self.dir, ignore_errors=True)


def cache_dir():
    return os.path.join(tempfile.gettempdir(), f"portolan-count-modules-{os.getuid()}")


def load(port, path, count):
    argv = ["h2load", "--h1", "-t1", "-c64", "-m1", f"-n{count}"]
    for header in HEADERS:
        argv += ["-H", header.replace(header.split(":")[0], header.split(":")[0].lower(), 1)]
    out = subprocess.run(argv + [f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True).stdout
    m = re.search(r"(\d+) succeeded, (\d+) failed.*?\nstatus codes: (\d+) 2xx", out, re.S)
    if not m or int(m.group(1)) != count or int(m.group(3)) != count:
        sys.exit("the load was not answered:\n" + out)


def total_instructions(args, origin, count, rule_count):
    callgrind = lambda d: ["valgrind", "--tool=callgrind", f"--callgrind-out-file={d}/callgrind.%p"]
    gateway = Gateway(args.binary, origin, rule_count, callgrind)
    load(gateway.port, f"/p{rule_count - 1}/x", count)
    gateway.stop()
    total = 0
    for name in glob.glob(gateway.dir + "/callgrind.*"):
        totals = re.findall(r"^(?:totals|summary): (\d+)", open(name).read(), re.M)
        total += max(map(int, totals), default=0)
        if args.keep and totals:
            shutil.copy(name, os.path.join(args.keep, f"{rule_count}-rules-{count}-requests"))
    gateway.remove()
    return total


def instructions(args, origin, rule_count):
    few, many = (total_instructions(args, origin, n, rule_count) for n in (3000, 9000))
    return (many - few) / 6000


def system_calls(args, origin):
    gateway = Gateway(args.binary, origin, 1, lambda d: [])
    load(gateway.port, "/p0/x", 2000)
    trace = gateway.dir + "/strace"
    strace = subprocess.Popen(["strace", "-c", "-f", "-o", trace, "-p", str(gateway.process.pid)], stderr=subprocess.DEVNULL)
    time.sleep(1)  # strace says nothing when it is attached
    load(gateway.port, "/p0/x", 20000)
    strace.send_signal(signal.SIGINT)
    strace.wait(20)
    gateway.stop()
    calls = {}
    for line in open(trace):
        m = re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:(\d+)\s+)?(\w+)$", line)
        if m and m.group(3) != "total":
            calls[m.group(3)] = int(m.group(1)) / 20000
    gateway.remove()
    return calls


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True, help="a release build")
    parser.add_argument("--keep", metavar="DIR", help="keep the profiles, for callgrind_annotate")
    parser.add_argument("--skip-growth", action="store_true", help="leave out the 10,000 rules")
    args = parser.parse_args()
    missing = [tool for tool in ("valgrind", "strace", "h2load") if not shutil.which(tool)]
    if missing:
        sys.exit("missing: " + ", ".join(missing))
    if args.keep:
        os.makedirs(args.keep, exist_ok=True)
    origin, broken = Origin().port, []
    # Compiles the filters into the cache: under valgrind, whose processor has its own features and so its own entries.
    total_instructions(args, origin, 64, 10)
    # Fills the cache of compiled filters, under valgrind since it shows another processor.
    total_instructions(args, origin, 100, 10)
    few = instructions(args, origin, 10)
    print(f"instructions per request, 3 filters       {few:9,.0f}   budget {BUDGET_INSTRUCTIONS:,}", flush=True)
    broken += ["instructions"] if few > BUDGET_INSTRUCTIONS else []
    if not args.skip_growth:
        many = instructions(args, origin, 10_000)
        print(f"the last of 10,000 rules against 10       {many / few:9.3f}   budget {BUDGET_GROWTH}   ({many:,.0f})", flush=True)
        broken += ["growth"] if many > few * BUDGET_GROWTH else []
    calls = system_calls(args, origin)
    sums = {"reads": ("read", "recvfrom", "readv", "recvmsg"), "writes": ("write", "sendto", "writev", "sendmsg")}
    for name, members in sums.items():
        value = sum(calls.get(call, 0) for call in members)
        print(f"{name} per request                       {value:13.3f}   budget 2", flush=True)
        broken += [name] if value > BUDGET_READS_WRITES else []
    print("all calls per request                     ", {k: round(v, 3) for k, v in sorted(calls.items(), key=lambda i: -i[1]) if v > 0.004})
    if broken:
        sys.exit("over budget: " + ", ".join(broken))


if __name__ == "__main__":
    main()
