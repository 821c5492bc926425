#!/usr/bin/env python3
"""What honest clients notice while others attack, and what the attackers get.

    attack.py --binary target/x86_64-unknown-linux-gnu/release/portolan [--seconds 6] [--only rapid-reset,ping]

One row for each attack, all from loopback and bounded in number and time: latency of honest clients (one connection that is kept,
and a new connection for each request) before and during it, requests of theirs that failed, how much the gateway's memory grew, and
how the attackers' connections ended. Goals: p99 within three times, nothing failed, memory bounded, attackers closed with the right
code. Attackers would be elsewhere: they run at the lowest priority, as does the backend that their own requests go to, so
that their share of the processors and of a backend is not taken for the gateway's. On a busy machine the times say little; it never
fails a build. Needs `ulimit -n` above 4,000.
"""
import argparse, collections, multiprocessing, os, resource, select, shutil, socket, sys, tempfile, time

from connections import Origin, PREFACE, Peak
from measure import Gateway

ARGUMENTS = ("--request-headers-timeout", "3s", "--request-timeout", "3s", "--stream-idle-timeout", "3s", "--max-memory", "400M")
CODES = ["NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED", "FRAME_SIZE_ERROR",
         "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM"]
# Static table: GET, /, http; then `:authority: a.test` as a literal.
HEAD = b"\x82\x84\x86\x01\x06a.test"
# What one connection of a flood sends at most.
MOST_BYTES = 4 << 20
# Where honest clients go: `*`, which attackers ask for, has another backend.
HONEST = """apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: honest}
spec:
  hosts: [honest-origin.test]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1, ports: {http: %d}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: honest}
spec:
  hosts: [honest.test]
  gateways: [measure]
  http:
  - route: [{destination: {host: honest-origin.test}}]
"""


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


class Backend(Origin):
    """In a process of its own, so that it shares no lock with the attackers. Clients that go away are what is measured."""

    def talk(self, client):
        try:
            super().talk(client)
        except OSError:
            pass


def serve(port, nice):
    os.nice(nice)
    origin = Backend()
    port.put(origin.port)
    origin.join()


def backend(nice=0):
    port = multiprocessing.Queue()
    multiprocessing.Process(target=serve, args=(port, nice), daemon=True).start()
    return port.get()


# --- honest clients

def ask(client):
    client.sendall(b"GET / HTTP/1.1\r\nhost: honest.test\r\n\r\n")
    got = b""
    while b"hello\n" not in got:
        piece = client.recv(4096)
        if not piece:
            raise OSError("closed")
        got += piece
    if not got.startswith(b"HTTP/1.1 200"):
        raise OSError(got[:20].decode())


def connect(port):
    client = socket.create_connection(("127.0.0.1", port), timeout=10)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def honest(port, seconds, fresh, results):
    """Milliseconds of each request, and how many failed."""
    times, failed, client, end = [], 0, None, time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        try:
            client = connect(port) if fresh or not client else client
            ask(client)
            times.append((time.perf_counter() - began) * 1000)
            if fresh:
                client.close()
        except OSError:
            failed, client = failed + 1, None
        time.sleep(0.004)
    results.put((fresh, sorted(times), failed))


def look(port, seconds):
    """Starts honest clients of both kinds; call the answer for (p50, p99) of each and the failures."""
    results = multiprocessing.Queue()
    clients = [multiprocessing.Process(target=honest, args=(port, seconds, fresh, results)) for fresh in (False, True)]
    for client in clients:
        client.start()

    def wait():
        seen = sorted(results.get() for _ in clients)
        for client in clients:
            client.join()
        at = lambda times, share: times[min(len(times) - 1, int(len(times) * share))] if times else float("nan")
        return [(at(times, 0.5), at(times, 0.99)) for _, times, _ in seen], sum(failed for _, _, failed in seen)

    return wait


# --- attackers that are slow: many connections at once, a byte a second each

def status(got):
    return got[9:12].decode("latin1") if got.startswith(b"HTTP/1.1 ") else None


def slow(port, seconds, count, begin, drip, reads=True, buffer=None):
    clients, ends, heads = {}, collections.Counter(), {}
    for _ in range(count):
        client = socket.socket()
        if buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        client.settimeout(5)
        try:
            client.connect(("127.0.0.1", port))
            client.sendall(begin)
        except OSError:
            ends["not let in"] += 1
            continue
        clients[client.fileno()] = client
    poll, end = select.poll(), time.monotonic() + seconds
    for number in clients:
        poll.register(number, select.POLLIN if reads else 0)
    next_drip = time.monotonic() + 1

    def over(number, what):
        poll.unregister(number)
        clients.pop(number).close()
        ends[what] += 1

    while clients and time.monotonic() < end:
        for number, event in poll.poll(100):
            try:
                piece = clients[number].recv(4096) if event & select.POLLIN else b""
            except OSError:
                piece = b""
            heads[number] = heads.get(number, b"") + piece[:12]
            if not piece:
                over(number, f"{status(heads[number]) or ''} closed".strip())
        if drip and time.monotonic() > next_drip:
            next_drip += 1
            for number in list(clients):
                try:
                    clients[number].sendall(drip)
                except OSError:
                    over(number, f"{status(heads.get(number, b'')) or ''} closed".strip())
    for client in clients.values():
        ends["still open" if reads or is_open(client) else "cut"] += 1
    return ends


def is_open(client):
    """Whoever has not read reads what is there: behind it is the end, or nothing."""
    client.settimeout(0.2)
    try:
        while client.recv(1 << 20):
            pass
        return False
    except TimeoutError:
        return True
    except OSError:
        return False


def slow_heads(port, seconds):
    return slow(port, seconds, 500, b"GET / HTTP/1.1\r\nhost: a.test\r\nx-a: ", b"a")


def slow_bodies(port, seconds):
    return slow(port, seconds, 500, b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 1000\r\n\r\n", b"a")


def slow_readers(port, seconds):
    return slow(port, seconds, 100, b"GET /down/16 HTTP/1.1\r\nhost: a.test\r\n\r\n", b"", reads=False, buffer=4096)


def silent(port, seconds):
    return slow(port, seconds, 2000, b"", b"")


# --- attackers that are quick: one connection after the other, as many frames as they get rid of

def goaway(got):
    """The code of the last GOAWAY, none without one."""
    code, at = None, 0
    while at + 9 <= len(got):
        length = int.from_bytes(got[at:at + 3], "big")
        if got[at + 3] == 7 and at + 17 <= len(got):
            code = int.from_bytes(got[at + 13:at + 17], "big")
        at += 9 + length
    return code if code is None else CODES[code] if code < len(CODES) else str(code)


def flood(port, seconds, pieces):
    """`pieces(n)` makes the n-th piece of a connection; frames that were sent are counted by it."""
    ends, end = collections.Counter(), time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            client = connect(port)
        except OSError:
            ends["not let in"] += 1
            time.sleep(0.01)
            continue
        client.setblocking(False)
        unsent, sent, number, got, open_ = PREFACE, 0, 0, b"", True
        while open_ and sent < MOST_BYTES and time.monotonic() < end:
            readable, writable, _ = select.select([client], [client], [], 0.5)
            try:
                if readable:
                    piece = client.recv(65536)
                    open_, got = bool(piece), (got + piece)[-(1 << 20):]
                if writable and open_:
                    if not unsent:
                        unsent, number = pieces(number), number + 1
                    length = client.send(unsent)
                    unsent, sent = unsent[length:], sent + length
            except BlockingIOError:
                pass
            except OSError:
                open_ = False
        # What was on its way is still read.
        client.settimeout(0.2)
        try:
            while piece := client.recv(65536):
                got += piece
            open_ = False
        except TimeoutError:
            pass
        except OSError:
            open_ = False
        code = goaway(got)
        ends[f"GOAWAY {code}" if code else "still open" if open_ else "closed"] += 1
        client.close()
    return ends


def odd(number):
    return 2 * number + 1


def rapid_reset(port, seconds):
    each = lambda stream: frame(1, 5, stream, HEAD) + frame(3, 0, stream, b"\0\0\0\x08")
    return flood(port, seconds, lambda n: b"".join(each(odd(50 * n + i)) for i in range(50)))


def continuation(port, seconds):
    more = frame(9, 0, 1, b"\x00\x01a\x01b") * 100
    return flood(port, seconds, lambda n: frame(1, 1, 1, HEAD) if n == 0 else more)


def long_continuation(port, seconds):
    more = frame(9, 0, 1, (b"\x00\x01a\x7f\x81\x7e" + b"b" * 16000)[:16000])
    return flood(port, seconds, lambda n: frame(1, 1, 1, HEAD) if n == 0 else more)


def ping(port, seconds):
    return flood(port, seconds, lambda n: frame(6, 0, 0, b"12345678") * 100)


def settings(port, seconds):
    return flood(port, seconds, lambda n: frame(4, 0, 0, b"\0\x03\0\0\0\x64") * 100)


def empty_data(port, seconds):
    post = b"\x83\x84\x86\x01\x06a.test"
    return flood(port, seconds, lambda n: frame(1, 4, 1, post) if n == 0 else frame(0, 0, 1) * 100)


def priority(port, seconds):
    return flood(port, seconds, lambda n: frame(2, 0, 1, b"\0\0\0\0\x10") * 100)


def window_update(port, seconds):
    return flood(port, seconds, lambda n: frame(8, 0, 0, b"\0\0\0\x01") * 100)


def made_you_reset(port, seconds):
    """Each stream makes the gateway reset it: a WINDOW_UPDATE of nothing."""
    each = lambda stream: frame(1, 5, stream, HEAD) + frame(8, 0, stream, b"\0\0\0\0")
    return flood(port, seconds, lambda n: b"".join(each(odd(50 * n + i)) for i in range(50)))


def hpack_bomb(port, seconds):
    """A field of 4,000 bytes is put into the table once and named 3,000 times in each head: 12 MB for 3 KB."""
    fill = HEAD + b"\x40\x01a\x7f\xa1\x1e" + b"b" * 4000
    return flood(port, seconds, lambda n: frame(1, 5, odd(n), fill if n == 0 else HEAD + b"\xbe" * 3000))


def connections(port, seconds):
    """Opened and closed as fast as it goes, with nothing said."""
    ends, end = collections.Counter(), time.monotonic() + seconds
    while time.monotonic() < end and sum(ends.values()) < 20_000:
        try:
            connect(port).close()
            ends["let in"] += 1
        except OSError:
            ends["not let in"] += 1
    return ends


ATTACKS = [slow_heads, slow_bodies, slow_readers, silent, connections, rapid_reset, made_you_reset, continuation, long_continuation, ping,
           settings, empty_data, priority, window_update, hpack_bomb]


def attacked(attack, port, seconds):
    """How the connections of the attack ended; it runs in a process of its own, behind everybody else."""
    ends = multiprocessing.Queue()

    def begin():
        os.nice(19)
        ends.put(attack(port, seconds))

    attacker = multiprocessing.Process(target=begin)
    attacker.start()
    got = ends.get()
    attacker.join()
    return got


def name(attack):
    return attack.__name__.replace("_", "-")


def run(binary, origins, cache, attack, seconds):
    gateway = Gateway(binary, origins[0], cache, ARGUMENTS)
    gateway.put("honest.yaml", HONEST % origins[1])
    gateway.first_answer()
    for _ in range(200):
        gateway.get()
    before, _ = look(gateway.port, 3)()
    peak, wait = Peak(gateway), look(gateway.port, seconds)
    ends = attacked(attack, gateway.port, seconds)
    during, failed = wait()
    grown = peak.growth()
    alive = gateway.process.poll() is None
    gateway.stop()
    pair = lambda figures: f"{figures[0]:.1f}/{figures[1]:.1f}"
    got = ", ".join(f"{count} {what}" for what, count in ends.most_common() if count)
    worst = max(d[1] / b[1] for b, d in zip(before, during))
    cells = [name(attack), pair(before[0]), pair(during[0]), pair(before[1]), pair(during[1]), f"{worst:.1f}x", str(failed),
             f"{grown:+.1f}", got if alive else "THE GATEWAY ENDED: " + got]
    print("| " + " | ".join(cells) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--seconds", type=float, default=6, help="of each attack")
    parser.add_argument("--only", help="names of attacks, with commas; all without it")
    args = parser.parse_args()
    chosen = [attack for attack in ATTACKS if not args.only or name(attack) in args.only.split(",")]
    if not chosen:
        sys.exit("no such attack: " + ", ".join(map(name, ATTACKS)))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    multiprocessing.set_start_method("fork")
    origins, cache = (backend(nice=19), backend()), tempfile.mkdtemp(prefix="portolan-measure-modules-")
    print("Times are milliseconds, p50/p99; memory is MiB. Gateway: " + " ".join(ARGUMENTS))
    print("| attack | kept before | kept during | new before | new during | p99 | failed | memory | attackers' connections |")
    print("|---|---|---|---|---|---|---|---|---|")
    for attack in chosen:
        run(args.binary, origins, cache, attack, args.seconds)
    shutil.rmtree(cache, ignore_errors=True)


if __name__ == "__main__":
    main()
