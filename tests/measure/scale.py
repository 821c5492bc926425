#!/usr/bin/env python3
"""What 10,000 VirtualServices cost: load, one changed rule, memory, CPU per request, against ten rules.

    scale.py --binary target/x86_64-unknown-linux-gnu/release/portolan [--services 10000] [--layout files|one]

`files` has each VirtualService in a file of its own, `one` all of them in one file. Every VirtualService has a host of its
own and ten rules. Prints one line per figure with its goal. On a busy machine the times say little; it never fails a build.
"""
import argparse, http.client, os, shutil, sys, tempfile, time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from measure import GATEWAY, Gateway, Load, Origin, free_port, line, median

RULES = 10
CLUSTERS = 100
SERVICE_ENTRY = """---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: origin-%d}
spec:
  hosts: [origin-%d.test]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1, ports: {http: %d}}]
"""


def service(number, mark=None):
    """A VirtualService: nine prefixes, each eighth with a split, and what is left; `mark` is the last rule's header."""
    text = f"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: scale-{number}}}\nspec:\n"
    text += f"  hosts: [s{number}.example.com]\n  gateways: [measure]\n  http:\n"
    for rule in range(RULES - 1):
        text += f"  - match: [{{uri: {{prefix: /p{rule}/}}}}]\n"
        if rule == 7:
            text += f"    route:\n    - {{destination: {{host: origin-{number % CLUSTERS}.test}}, weight: 80}}\n"
            text += f"    - {{destination: {{host: origin-{(number + 1) % CLUSTERS}.test}}, weight: 20}}\n"
        else:
            text += f"    route: [{{destination: {{host: origin-{(number + rule) % CLUSTERS}.test}}}}]\n"
    text += f"  - route: [{{destination: {{host: origin-{number % CLUSTERS}.test}}}}]\n"
    return text + (f"    headers: {{response: {{set: {{x-generation: '{mark}'}}}}}}\n" if mark is not None else "")


class Many(Gateway):
    """A gateway with so many VirtualServices."""

    def __init__(self, args, origin, cache, count, layout):
        self.count, self.layout, self.texts = count, layout, [service(number) for number in range(count)]
        super().__init__(args.binary, origin, cache)

    def put(self, name, text):
        """Before the start, which writes `routes.yaml` last."""
        if name != "routes.yaml":
            port = text.rsplit("http: ", 1)[1].split("}")[0]
            return super().put(name, text + "".join(SERVICE_ENTRY % (n, n, int(port)) for n in range(CLUSTERS)))
        self.write(range(self.count))
        self.began = time.perf_counter()

    def write(self, numbers):
        if self.layout == "one":
            return super().put("routes.yaml", "---\n".join(self.texts))
        for number in numbers:
            super().put(f"s{number}.yaml", self.texts[number])

    def mark(self, number, mark):
        self.texts[number] = service(number, mark)
        self.write([number])

    def ask(self, number, path="/"):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path, headers={"host": f"s{number}.example.com"})
            answer = connection.getresponse()
            answer.read()
            return answer.status, answer.getheader("x-generation")
        finally:
            connection.close()

    def get(self, port=None, path="/"):
        return (*self.ask(self.count - 1), None) if port is None else super().get(port, path)

    def cpu_seconds(self):
        fields = open(f"/proc/{self.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_mib(self):
        for text in open(f"/proc/{self.process.pid}/status"):
            if text.startswith("VmHWM:"):
                return int(text.split()[1]) / 1024


def cpu_per_request(gateway, requests):
    """Microseconds of the gateway's CPU for a request on a kept connection, spread over its hosts: of the first for each host,
    whose rules are handed over then, and when all hosts have been asked for."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=5)

    def once():
        began = gateway.cpu_seconds()
        for number in range(requests):
            host = (number * 7919) % gateway.count
            connection.request("GET", f"/p{number % RULES}/x", headers={"host": f"s{host}.example.com"})
            connection.getresponse().read()
        return (gateway.cpu_seconds() - began) / requests * 1e6

    costs = once(), once()
    connection.close()
    return costs


def changes(gateway, rounds):
    """Milliseconds from a saved rule to its answer, for VirtualServices all over the list."""
    times = []
    for mark in range(1, rounds + 1):
        number = (mark * 6007) % gateway.count
        gateway.mark(number, mark)
        times.append(gateway.served_after(lambda: gateway.ask(number)[1] == str(mark)))
        time.sleep(0.5)
    return times


def added(gateway):
    """Milliseconds until a new VirtualService with a host of its own is served, and failures of others meanwhile."""
    number = len(gateway.texts)
    load = Load(gateway.port, {"host": "s0.example.com"})
    gateway.texts.append(service(number, "new"))
    gateway.write([number])
    took = gateway.served_after(lambda: gateway.ask(number)[1] == "new")
    time.sleep(1)
    load.ended = True
    load.join()
    return took, load.failures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--services", type=int, default=10_000)
    parser.add_argument("--layout", choices=["files", "one", "both"], default="both")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--requests", type=int, default=20_000)
    args = parser.parse_args()
    origin, cache = Origin().port, tempfile.mkdtemp(prefix="portolan-scale-modules-")
    few = Many(args, origin, cache, 1, "one")
    few.first_answer()
    few.stop()
    few = Many(args, origin, cache, 1, "one")
    line("start with 10 rules", few.first_answer(), "ms", "-")
    _, cost = cpu_per_request(few, args.requests)
    memory = few.memory_mib()
    line("resident memory with 10 rules", memory, "MiB", "-")
    few.stop()
    for layout in ["files", "one"] if args.layout == "both" else [args.layout]:
        print(f"{args.services:,} VirtualServices with {RULES} rules each, layout {layout}", flush=True)
        many = Many(args, origin, cache, args.services, layout)
        line("start to first routed request", many.first_answer(), "ms", "< 3000")
        time.sleep(1)
        each = lambda mib: (mib - memory) * 1024 / args.services / 2
        line("memory per VirtualService and worker", each(many.memory_mib()), "KiB", "< 10")
        times = changes(many, args.rounds)
        line("one changed rule to its answer, median", median(times), "ms", "< 300")
        line("one changed rule to its answer, worst", max(times), "ms", "< 300")
        line("memory after the changes", each(many.memory_mib()), "KiB", "< 10")
        line("memory at the peak", each(many.peak_mib()), "KiB", "-")
        took, failures = added(many)
        line("one more host to its answer", took, "ms", "-")
        line("failed requests meanwhile", failures, "", "0")
        first, later = cpu_per_request(many, args.requests)
        line("CPU per request against 10 rules", later / cost, "x", "< 1.3")
        line("the same while rules are handed over", first / cost, "x", "-")
        line("memory when every host was asked for", each(many.memory_mib()), "KiB", "< 10")
        many.stop()
    shutil.rmtree(cache, ignore_errors=True)


if __name__ == "__main__":
    main()
