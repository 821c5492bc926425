// A filter: stamps every response, and greets at /hello.
#define PROXYWASM_IMPLEMENTATION
#include "proxywasm.h"

// What is exported here the host calls; it calls nothing else. To see bodies, export proxy_on_request_body likewise.

static char stamp[256];
static size_t stamp_size;

// Reads pluginConfig; in `portolan filter dev` and `test`, config of filter.yaml. 0 refuses it.
EXPORT(proxy_on_configure) uint32_t on_configure(uint32_t context, uint32_t size) {
  begin();
  Text value = flat_string(configuration(size), TEXT("stamp"));
  if (value.size == 0 || value.size > sizeof stamp) {
    log_line(LOG_ERROR, TEXT("invalid configuration: `stamp` is missing, empty or longer than 256 bytes"));
    return 0;
  }
  for (stamp_size = 0; stamp_size < value.size; stamp_size++) stamp[stamp_size] = value.at[stamp_size];
  return 1;
}

EXPORT(proxy_on_request_headers) Action on_request_headers(uint32_t context, uint32_t count, uint32_t end) {
  begin();
  if (!equal(before(header(REQUEST_HEADERS, TEXT(":path")), '?'), TEXT("/hello"))) return CONTINUE;
  Text user = header(REQUEST_HEADERS, TEXT("x-user"));
  if (user.size == 0) user = TEXT("stranger");
  return reply(200, joined(joined(TEXT("hello, "), user), TEXT("\n")), TEXT("greeted"));
}

EXPORT(proxy_on_response_headers) Action on_response_headers(uint32_t context, uint32_t count, uint32_t end) {
  set_header(RESPONSE_HEADERS, TEXT("x-stamp"), (Text){stamp, stamp_size});
  return CONTINUE;
}
