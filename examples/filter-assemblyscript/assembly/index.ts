// A filter in AssemblyScript: takes parameters that only follow people around out of each request's query, before it is
// routed, and tells in a response header how many they were.

import { Action, REQUEST, RESPONSE, configuration, get, logError, set } from "./abi";
import { words } from "./config";
import { tidied } from "./query";

// The ABI's version, and the memory that the host fills in.
export { malloc, proxy_abi_version_0_2_1 } from "./abi";

/** The configuration: how the names of unwanted parameters begin. One for each worker, shared by all its requests. */
let starts: string[] = [];

/** How many each request under way lost, by the host's number of the request. */
const dropped = new Map<u32, i32>();

/** Reads pluginConfig. False refuses it. */
export function proxy_on_configure(context: u32, size: u32): bool {
  starts = words(configuration(size), "drop");
  if (starts.length == 0) logError("invalid configuration: `drop` is missing, empty or no plain string");
  return starts.length > 0;
}

export function proxy_on_request_headers(context: u32, count: u32, end: u32): Action {
  const path = get(REQUEST, ":path");
  const better = tidied(path, starts);
  if (better.dropped > 0) {
    set(REQUEST, ":path", better.path);
    dropped.set(context, better.dropped);
  }
  return Action.Continue;
}

export function proxy_on_response_headers(context: u32, count: u32, end: u32): Action {
  if (dropped.has(context)) set(RESPONSE, "x-dropped-parameters", dropped.get(context).toString());
  return Action.Continue;
}

/** The request is over: nothing of it may stay. */
export function proxy_on_delete(context: u32): void {
  dropped.delete(context);
}
