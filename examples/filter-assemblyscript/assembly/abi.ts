// The proxy-wasm ABI 0.2.1, as far as this filter needs it.

// @ts-ignore: decorator
@external("env", "proxy_log")
declare function hostLog(level: i32, line: usize, size: u32): i32;

// @ts-ignore: decorator
@external("env", "proxy_get_header_map_value")
declare function hostGetHeader(map: i32, name: usize, nameSize: u32, value: usize, size: usize): i32;

// @ts-ignore: decorator
@external("env", "proxy_replace_header_map_value")
declare function hostReplaceHeader(map: i32, name: usize, nameSize: u32, value: usize, valueSize: u32): i32;

// @ts-ignore: decorator
@external("env", "proxy_get_buffer_bytes")
declare function hostGetBuffer(kind: i32, start: u32, most: u32, bytes: usize, size: usize): i32;

/** What happens to the message after a callback. */
export enum Action {
  Continue = 0,
  Pause = 1,
}

/** Numbers of header maps. */
export const REQUEST: i32 = 0;
export const RESPONSE: i32 = 2;

/** A header's first value, or nothing. Names are in lower case; `:path` is a header too. */
export function get(map: i32, name: string): string {
  const key = String.UTF8.encode(name);
  const status = hostGetHeader(map, changetype<usize>(key), key.byteLength, RESULT, RESULT + 4);
  return status == 0 ? taken() : "";
}

/** Replaces all values of a header. */
export function set(map: i32, name: string, value: string): void {
  const key = String.UTF8.encode(name);
  const text = String.UTF8.encode(value);
  hostReplaceHeader(map, changetype<usize>(key), key.byteLength, changetype<usize>(text), text.byteLength);
}

/** The plugin's configuration: for proxy_on_configure, which is told its size. */
export function configuration(size: u32): string {
  return size > 0 && hostGetBuffer(7, 0, size, RESULT, RESULT + 4) == 0 ? taken() : "";
}

export function logError(line: string): void {
  const text = String.UTF8.encode(line);
  hostLog(4, changetype<usize>(text), text.byteLength);
}

export function proxy_abi_version_0_2_1(): void {}

/** Memory that the host fills in: freed by `taken`. */
export function malloc(size: u32): usize {
  return heap.alloc(size);
}

/** What the language does where it cannot go on: its words go to the log, and the request to its failStrategy. */
export function abort(message: string | null, file: string | null, line: u32, column: u32): void {
  logError((message == null ? "abort" : message) + " at " + (file == null ? "?" : file) + ":" + line.toString());
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
