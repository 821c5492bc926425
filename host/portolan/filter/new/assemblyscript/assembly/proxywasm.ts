// The proxy-wasm ABI 0.2.1, as far as this filter needs it. The whole ABI:
// https://github.com/proxy-wasm/spec/tree/main/abi-versions/v0.2.1

// @ts-ignore: decorator
@external("env", "proxy_log")
declare function hostLog(level: i32, line: usize, size: u32): i32;

// @ts-ignore: decorator
@external("env", "proxy_get_header_map_value")
declare function hostGetHeader(map: i32, name: usize, nameSize: u32, value: usize, valueSize: usize): i32;

// @ts-ignore: decorator
@external("env", "proxy_replace_header_map_value")
declare function hostReplaceHeader(map: i32, name: usize, nameSize: u32, value: usize, valueSize: u32): i32;

// @ts-ignore: decorator
@external("env", "proxy_add_header_map_value")
declare function hostAddHeader(map: i32, name: usize, nameSize: u32, value: usize, valueSize: u32): i32;

// @ts-ignore: decorator
@external("env", "proxy_remove_header_map_value")
declare function hostRemoveHeader(map: i32, name: usize, nameSize: u32): i32;

// @ts-ignore: decorator
@external("env", "proxy_get_buffer_bytes")
declare function hostGetBuffer(kind: i32, start: u32, most: u32, bytes: usize, size: usize): i32;

// @ts-ignore: decorator
@external("env", "proxy_send_local_response")
declare function hostSendLocalResponse(
  status: u32, details: usize, detailsSize: u32, body: usize, bodySize: u32, headers: usize, headersSize: u32, grpc: i32,
): i32;

/** What happens to the message after a callback. */
export enum Action {
  /** It goes on. */
  Continue = 0,
  /** It waits, for `reply` or a later callback. */
  Pause = 1,
}

/** One of the header maps, readable and writable in its own callback. */
export class Headers {
  static readonly Request: Headers = new Headers(0);
  static readonly Response: Headers = new Headers(2);

  constructor(private map: i32) {}

  /** A header's first value, or nothing. Names are in lower case; `:method`, `:path`, `:status` are headers too. */
  get(name: string): string {
    const key = new Text(name);
    return hostGetHeader(this.map, key.at, key.size, RESULT, RESULT + 4) == 0 ? taken() : "";
  }

  /** Replaces all values of a header. */
  set(name: string, value: string): void {
    const key = new Text(name), text = new Text(value);
    hostReplaceHeader(this.map, key.at, key.size, text.at, text.size);
  }

  /** Adds a value to a header. */
  add(name: string, value: string): void {
    const key = new Text(name), text = new Text(value);
    hostAddHeader(this.map, key.at, key.size, text.at, text.size);
  }

  /** Removes all values of a header. */
  remove(name: string): void {
    const key = new Text(name);
    hostRemoveHeader(this.map, key.at, key.size);
  }
}

/** Answers the request here; the upstream never sees it. `details` are a word for the access log. */
export function reply(status: u32, body: string, details: string): Action {
  const text = new Text(body), word = new Text(details);
  hostSendLocalResponse(status, word.at, word.size, text.at, text.size, 0, 0, -1);
  return Action.Pause;
}

/** The plugin's configuration, JSON or nothing: for proxy_on_configure. */
export function configuration(size: u32): string {
  return hostGetBuffer(7, 0, size, RESULT, RESULT + 4) == 0 ? taken() : "";
}

/** Writes a line to the gateway's log. */
export function info(line: string): void {
  const text = new Text(line);
  hostLog(2, text.at, text.size);
}

/** Writes a line at level error, and refuses the configuration with it. */
export function fail(line: string): bool {
  const text = new Text(line);
  hostLog(4, text.at, text.size);
  return false;
}

/** The string of this key in a JSON object without objects or lists inside; null when there is none. */
export function flatString(json: string, key: string): string | null {
  let at = 0, isKey = true, last = "";
  while (at < json.length) {
    const c = json.charCodeAt(at++);
    if (c == 0x3a) isKey = false; // :
    else if (c == 0x2c) isKey = true; // ,
    else if (c == 0x22) { // "
      let text = "";
      while (at < json.length && json.charCodeAt(at) != 0x22) {
        if (json.charCodeAt(at) == 0x5c) {
          const word = json.charAt(++at);
          if (word == "u") {
            text += String.fromCharCode(<i32>parseInt(json.substr(at + 1, 4), 16));
            at += 4;
          } else {
            const plain = "bfnrt".indexOf(word);
            text += plain < 0 ? word : "\b\f\n\r\t".charAt(plain);
          }
          at++;
        } else text += json.charAt(at++);
      }
      at++;
      if (isKey) last = text;
      else if (last == key) return text;
    }
  }
  return null;
}

export function proxy_abi_version_0_2_1(): void {}

/** Memory that the host fills in: freed by `taken`. */
export function malloc(size: u32): usize {
  return heap.alloc(size);
}

/** A trap of the language itself: its words go to the log. */
export function abort(message: string | null, file: string | null, line: u32, column: u32): void {
  const words = message == null ? "abort" : message;
  fail(words + " at " + (file == null ? "" : file) + ":" + line.toString() + ":" + column.toString());
  unreachable();
}

/** Where the host writes address and size of what it gives. */
const RESULT: usize = memory.data(8);

function taken(): string {
  const at = <usize>load<u32>(RESULT);
  const text = String.UTF8.decodeUnsafe(at, <usize>load<u32>(RESULT + 4));
  heap.free(at);
  return text;
}

/** A string as the host reads it, for as long as this object lives. */
class Text {
  private bytes: ArrayBuffer;

  constructor(text: string) {
    this.bytes = String.UTF8.encode(text);
  }

  get at(): usize {
    return changetype<usize>(this.bytes);
  }

  get size(): u32 {
    return this.bytes.byteLength;
  }
}
