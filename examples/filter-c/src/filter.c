// A filter in C without a library: a tripwire. Requests for paths that only scanners ask for get 404, are counted, and
// never reach an upstream.
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXPORT(name) __attribute__((export_name(#name)))
#define IMPORT(name) __attribute__((import_module("env"), import_name(#name)))

// The proxy-wasm ABI 0.2.1, as far as this filter needs it. What the host offers; 0 is OK:
IMPORT(proxy_log) uint32_t host_log(uint32_t level, const char *line, size_t size);
IMPORT(proxy_get_header_map_value)
uint32_t host_get_header(uint32_t map, const char *name, size_t name_size, const char **value, size_t *size);
IMPORT(proxy_get_buffer_bytes)
uint32_t host_get_buffer(uint32_t buffer, size_t start, size_t most, const char **bytes, size_t *size);
IMPORT(proxy_send_local_response)
uint32_t host_send_local_response(uint32_t status, const char *details, size_t details_size, const char *body,
                                  size_t body_size, const char *headers, size_t headers_size, int32_t grpc_status);
IMPORT(proxy_define_metric) uint32_t host_define_metric(uint32_t kind, const char *name, size_t size, uint32_t *id);
IMPORT(proxy_increment_metric) uint32_t host_increment_metric(uint32_t id, int64_t by);

enum { REQUEST_HEADERS = 0, PLUGIN_CONFIGURATION = 7, COUNTER = 0, LOG_INFO = 2, LOG_ERROR = 4 };
enum { CONTINUE = 0, PAUSE = 1 };

// Some bytes.
typedef struct {
  const char *at;
  size_t size;
} Text;

#define TEXT(literal) ((Text){"" literal, sizeof(literal) - 1})

// The configuration and the paths in it: one for each worker, shared by all its requests.
static char config[16 * 1024];
static Text paths[256];
static size_t path_count;
static uint32_t hits;

// What the host gives in a callback lies here until the next one: a filter that keeps nothing needs no `free`.
static char given[256 * 1024];
static size_t used;

EXPORT(malloc) void *take(size_t size) {
  if (size > sizeof given - used) return 0;
  void *block = given + used;
  used += (size + 7) & ~(size_t)7;
  return block;
}

static bool starts_with(Text text, Text start) {
  if (text.size < start.size) return false;
  for (size_t i = 0; i < start.size; i++)
    if (text.at[i] != start.at[i]) return false;
  return true;
}

static bool refuse(Text why) {
  host_log(LOG_ERROR, why.at, why.size);
  return false;
}

static void skip_blanks(Text *json) {
  while (json->size && (*json->at == ' ' || *json->at == '\n' || *json->at == '\t' || *json->at == '\r'))
    json->at++, json->size--;
}

static bool skip(Text *json, Text what) {
  skip_blanks(json);
  if (!starts_with(*json, what)) return false;
  json->at += what.size, json->size -= what.size;
  return true;
}

// A string that starts with / and has no escapes, which is all that a path needs.
static bool read_path(Text *json, Text *path) {
  if (!skip(json, TEXT("\""))) return false;
  path->at = json->at;
  while (json->size && *json->at != '"' && *json->at != '\\') json->at++, json->size--;
  path->size = json->at - path->at;
  return skip(json, TEXT("\"")) && starts_with(*path, TEXT("/"));
}

// {"paths": ["/a", "/b"]} and nothing else.
static bool read_config(Text json) {
  path_count = 0;
  if (!skip(&json, TEXT("{")) || !skip(&json, TEXT("\"paths\"")) || !skip(&json, TEXT(":")) || !skip(&json, TEXT("[")))
    return refuse(TEXT("invalid configuration: `paths` is missing, or is no list, or is not alone"));
  do {
    if (path_count == sizeof paths / sizeof *paths) return refuse(TEXT("invalid configuration: more than 256 `paths`"));
    if (!read_path(&json, &paths[path_count++]))
      return refuse(TEXT("invalid configuration: `paths` holds strings that start with / and have no backslash"));
  } while (skip(&json, TEXT(",")));
  if (!skip(&json, TEXT("]")) || !skip(&json, TEXT("}")))
    return refuse(TEXT("invalid configuration: nothing but `paths` is known"));
  skip_blanks(&json);
  return json.size == 0 || refuse(TEXT("invalid configuration: something follows the object"));
}

EXPORT(proxy_abi_version_0_2_1) void abi_version(void) {}

EXPORT(proxy_on_configure) uint32_t on_configure(uint32_t context, uint32_t size) {
  Text text = {0, 0};
  used = 0;
  if (size > sizeof config) return refuse(TEXT("invalid configuration: longer than 16 KiB"));
  if (size && host_get_buffer(PLUGIN_CONFIGURATION, 0, size, &text.at, &text.size)) return false;
  // The paths point into it, and what the host gave does not last.
  for (size_t i = 0; i < text.size; i++) config[i] = text.at[i];
  Text name = TEXT("tripwire_hits");
  return read_config((Text){config, text.size}) && host_define_metric(COUNTER, name.at, name.size, &hits) == 0;
}

EXPORT(proxy_on_request_headers) uint32_t on_request_headers(uint32_t context, uint32_t count, uint32_t end) {
  Text name = TEXT(":path"), path = {0, 0};
  used = 0;
  if (host_get_header(REQUEST_HEADERS, name.at, name.size, &path.at, &path.size)) return CONTINUE;
  for (size_t i = 0; i < path_count; i++) {
    if (!starts_with(path, paths[i])) continue;
    Text details = TEXT("tripwire"), body = TEXT("not found\n");
    host_increment_metric(hits, 1);
    host_log(LOG_INFO, path.at, path.size);
    host_send_local_response(404, details.at, details.size, body.at, body.size, 0, 0, -1);
    return PAUSE;
  }
  return CONTINUE;
}
