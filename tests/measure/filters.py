#!/usr/bin/env python3
"""What Wasm filters cost: CPU per request, memory per VM, memory over many reloads, start of a large module.

    filters.py --binary target/x86_64-unknown-linux-gnu/release/portolan [--large go.wasm] [--reloads 1000] [--only NAME]

Prints a line for each figure with its goal, and ends with 1 when `instructions` or `reloads` misses it: the others are
times, which a busy machine spoils. `instructions` needs valgrind and h2load, `cpu` needs h2load. A debug build shows
that the script works, and nothing else.
"""
import argparse, json, os, re, shutil, statistics, sys, time, urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "count"))
import count

GOAL_CPU_US = 1.2
GOAL_VM_MIB = 1.0
GOAL_GROWTH = 1.05
GOAL_WARM_S = 0.5
INSTRUCTIONS_PER_US = 3000  # what this code does in a microsecond on a core of 3 GHz, about one in a cycle


def leb(number):
    out = b""
    while number >= 0x80:
        out, number = out + bytes([number & 0x7f | 0x80]), number >> 7
    return out + bytes([number])


def vector(items):
    return leb(len(items)) + b"".join(items)


def name(text):
    return vector([bytes([byte]) for byte in text.encode()])


def section(number, payload):
    return bytes([number]) + leb(len(payload)) + payload


def trivial(stamp=""):
    """A filter that adds one request header; the stamp makes another digest of it."""
    kind = lambda params, results: b"\x60" + vector([b"\x7f"] * params) + vector([b"\x7f"] * results)
    code = lambda body: leb(len(body) + 2) + b"\x00" + body + b"\x0b"
    const = lambda n: b"\x41" + leb(n)
    add = b"".join(map(const, (0, 16, 9, 25, 1))) + b"\x10\x00\x1a" + const(0)
    exports = [("proxy_abi_version_0_2_1", 0, 1), ("malloc", 0, 2), ("proxy_on_context_create", 0, 3),
               ("proxy_on_request_headers", 0, 4), ("memory", 2, 0)]
    module = b"\0asm\x01\0\0\0"
    module += section(1, vector([kind(5, 1), kind(0, 0), kind(1, 1), kind(2, 0), kind(3, 1)]))
    module += section(2, vector([name("env") + name("proxy_add_header_map_value") + b"\x00\x00"]))
    module += section(3, vector([b"\x01", b"\x02", b"\x03", b"\x04"]))
    module += section(5, vector([b"\x00\x01"]))
    module += section(7, vector([name(text) + bytes([what]) + leb(index) for text, what, index in exports]))
    module += section(10, vector([code(b""), code(b"\x41\x80\x08"), code(b""), code(add)]))
    module += section(11, vector([b"\x00" + const(16) + b"\x0b" + name("x-trivial1")]))
    return module + section(0, name("stamp") + stamp.encode())


def plugin(file, config="{}"):
    return ("apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {name: measured}\n"
            f"spec:\n  url: file://{file}\n  pluginConfig: {config}\n")


class Gateway(count.Gateway):
    """A gateway of the instruction count, with a filter (or without) and any number of workers."""

    def __init__(self, binary, origin, module=None, workers=1, prefix=lambda d: [], cache=None):
        def argv(folder):
            if module is not None:
                self.module = folder + "/filter.wasm"
                with open(self.module, "wb") as f:
                    f.write(module)
                with open(folder + "/config/filter.yaml", "w") as f:
                    f.write(plugin(self.module))
            return prefix(folder)
        cache_dir, count.cache_dir = count.cache_dir, (lambda: cache) if cache else count.cache_dir
        popen = count.subprocess.Popen
        def start(arguments, **options):
            self.admin = arguments[arguments.index("--admin-address") + 1]
            arguments[arguments.index("--workers") + 1] = str(workers)
            return popen(arguments, **options)
        count.subprocess.Popen = start
        try:
            begun = time.monotonic()
            super().__init__(binary, origin, 1, argv)
            self.started = time.monotonic() - begun
        finally:
            count.cache_dir, count.subprocess.Popen = cache_dir, popen

    def filter(self):
        with urllib.request.urlopen(f"http://{self.admin}/filters?format=json") as answer:
            filters = json.load(answer)["filters"]
        return next(f for f in filters if f["name"] == "default.measured")

    def pss(self):
        text = open(f"/proc/{self.process.pid}/smaps_rollup").read()
        return int(re.search(r"^Pss:\s+(\d+) kB", text, re.M).group(1)) / 1024

    def cpu(self):
        fields = open(f"/proc/{self.process.pid}/stat").read().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self):
        self.stop()
        self.remove()


def instructions(args, origin):
    """As `make count`: a run of 9,000 requests less one of 3,000, with and without the filter."""
    callgrind = lambda d: ["valgrind", "--tool=callgrind", f"--callgrind-out-file={d}/callgrind.%p"]

    def total(module, requests):
        gateway = Gateway(args.binary, origin, module, prefix=callgrind)
        count.load(gateway.port, "/p0/x", requests)
        gateway.stop()
        found = [open(f"{gateway.dir}/{file}").read() for file in os.listdir(gateway.dir) if file.startswith("callgrind.")]
        gateway.remove()
        return sum(max(map(int, re.findall(r"^(?:totals|summary): (\d+)", text, re.M)), default=0) for text in found)

    def each(module):
        return (total(module, 9000) - total(module, 3000)) / 6000
    total(trivial(), 100)
    without, with_it = each(None), each(trivial())
    more = with_it - without
    print(f"a trivial header filter, instructions    {more:9,.0f}   goal {GOAL_CPU_US * INSTRUCTIONS_PER_US:,.0f}"
          f"   ({without:,.0f} without)", flush=True)
    return more <= GOAL_CPU_US * INSTRUCTIONS_PER_US


def cpu(args, origin):
    """CPU time of the process per request, in turns, so that a neighbour disturbs both alike."""
    gateways = [Gateway(args.binary, origin), Gateway(args.binary, origin, trivial())]
    differences = []
    for _ in range(7):
        used = []
        for gateway in gateways:
            before = gateway.cpu()
            count.load(gateway.port, "/p0/x", args.requests)
            used.append((gateway.cpu() - before) / args.requests * 1e6)
        differences.append(used[1] - used[0])
    for gateway in gateways:
        gateway.end()
    print(f"a trivial header filter, CPU us         {statistics.median(differences):10.2f}   goal {GOAL_CPU_US}"
          f"   ({min(differences):.2f} to {max(differences):.2f})", flush=True)
    return True


def memory(args, origin):
    """What 16 more VMs take, beyond what 16 more workers take without a filter, and beyond the guest's own memory."""
    def take(module, workers):
        gateway = Gateway(args.binary, origin, module, workers)
        found = gateway.pss()
        gateway.end()
        return found
    each = ((take(trivial(), 17) - take(trivial(), 1)) - (take(None, 17) - take(None, 1))) / 16
    print(f"a VM of a trivial filter, MiB           {each:10.3f}   goal {GOAL_VM_MIB}", flush=True)
    return True


def reloads(args, origin):
    gateway = Gateway(args.binary, origin, trivial())
    settled, began = None, time.monotonic()
    for number in range(args.reloads):
        new = gateway.module + ".new"
        with open(new, "wb") as f:
            f.write(trivial(str(number)))
        before = {version["sha256"] for version in gateway.filter()["versions"] if version["serves"]}
        os.rename(new, gateway.module)
        deadline = time.monotonic() + 30
        while {version["sha256"] for version in gateway.filter()["versions"] if version["serves"]} == before:
            if time.monotonic() > deadline:
                sys.exit(f"reload {number} is not served:\n" + open(gateway.dir + "/log").read()[-1000:])
            time.sleep(0.005)
        if number + 1 == args.reloads // 10:
            settled = gateway.pss()
    growth = gateway.pss() / settled
    alive = len(gateway.filter()["versions"])
    took = (time.monotonic() - began) / args.reloads
    gateway.end()
    print(f"memory after {args.reloads} reloads against a tenth    {growth:6.3f}   goal {GOAL_GROWTH}"
          f"   ({alive} versions alive, {took * 1e3:.0f} ms each)", flush=True)
    return growth <= GOAL_GROWTH and alive == 1


def large(args, origin):
    if not args.large:
        return True
    module, cache = open(args.large, "rb").read(), f"{count.cache_dir()}-large"
    shutil.rmtree(cache, ignore_errors=True)
    times = []
    for _ in range(4):
        gateway = Gateway(args.binary, origin, module, cache=cache)
        state = gateway.filter()["state"]
        times.append(gateway.started)
        gateway.end()
    shutil.rmtree(cache, ignore_errors=True)
    print(f"start with {len(module) / 1e6:.1f} MB of module, warm, s      {min(times[1:]):8.3f}   goal {GOAL_WARM_S}"
          f"   ({times[0]:.2f} cold, {state})", flush=True)
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True, help="a release build")
    parser.add_argument("--large", metavar="FILE", help="a large module, e.g. one written in Go")
    parser.add_argument("--reloads", type=int, default=1000)
    parser.add_argument("--requests", type=int, default=60_000, help="of each round of `cpu`")
    figures = {"instructions": instructions, "cpu": cpu, "memory": memory, "reloads": reloads, "large": large}
    parser.add_argument("--only", choices=figures, action="append")
    args = parser.parse_args()
    origin = count.Origin().port
    missed = [name for name in args.only or figures if not figures[name](args, origin)]
    if missed:
        sys.exit("missed: " + ", ".join(missed))


if __name__ == "__main__":
    main()
