// A filter: stamps every response, and greets at /hello.

import { Action, Headers, configuration, fail, flatString, reply } from "./proxywasm";

// The ABI's version, and the memory that the host fills in.
export { proxy_abi_version_0_2_1, malloc } from "./proxywasm";

// What is exported here the host calls; it calls nothing else. To see bodies, export proxy_on_request_body likewise.

let stamp: string = "";

/** Reads pluginConfig; in `portolan filter dev` and `test`, config of filter.yaml. */
export function proxy_on_configure(context: u32, size: u32): bool {
  const value = flatString(configuration(size), "stamp");
  if (value == null || value.length == 0) return fail("invalid configuration: `stamp` is missing or empty");
  stamp = value;
  return true;
}

export function proxy_on_request_headers(context: u32, count: u32, end: u32): Action {
  const path = Headers.Request.get(":path").split("?")[0];
  if (path != "/hello") return Action.Continue;
  let user = Headers.Request.get("x-user");
  if (user.length == 0) user = "stranger";
  return reply(200, "hello, " + user + "\n", "greeted");
}

export function proxy_on_response_headers(context: u32, count: u32, end: u32): Action {
  Headers.Response.set("x-stamp", stamp);
  return Action.Continue;
}
