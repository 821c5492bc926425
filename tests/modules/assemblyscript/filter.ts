// A filter on Solo's AssemblyScript SDK, after its own example.
export * from "@solo-io/proxy-runtime/proxy";
import {
  RootContext,
  Context,
  registerRootContext,
  FilterHeadersStatusValues,
  stream_context,
  log,
  LogLevelValues,
} from "@solo-io/proxy-runtime";

class Root extends RootContext {
  createContext(context_id: u32): Context {
    return new Stream(context_id, this);
  }
}

class Stream extends Context {
  constructor(context_id: u32, root: Root) {
    super(context_id, root);
  }

  onRequestHeaders(a: u32, end: bool): FilterHeadersStatusValues {
    const path = stream_context.headers.request.get(":path");
    if (path == "/panic") {
      throw new Error("asked to");
    }
    stream_context.headers.request.add("x-as-path", path);
    return FilterHeadersStatusValues.Continue;
  }

  onResponseHeaders(a: u32, end: bool): FilterHeadersStatusValues {
    const root = this.root_context;
    log(LogLevelValues.info, "a line of AssemblyScript");
    stream_context.headers.response.add("x-as", root.getConfiguration());
    return FilterHeadersStatusValues.Continue;
  }
}

registerRootContext((context_id: u32) => new Root(context_id), "as");
