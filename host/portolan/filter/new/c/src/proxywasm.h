// The proxy-wasm ABI 0.2.1 for C without a library, as far as this filter needs it. The whole ABI:
// https://github.com/proxy-wasm/spec/tree/main/abi-versions/v0.2.1
//
// One C file of a filter defines PROXYWASM_IMPLEMENTATION before it includes this.
#ifndef PROXYWASM_H
#define PROXYWASM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// What the host calls carries this and the callback's name: EXPORT(proxy_on_log) void on_log(uint32_t context).
#define EXPORT(name) __attribute__((export_name(#name)))
#define IMPORT(name) __attribute__((import_module("env"), import_name(#name)))

// What happens to the message after a callback: it goes on, or waits for a reply or a later callback.
typedef enum { CONTINUE = 0, PAUSE = 1 } Action;
typedef enum { REQUEST_HEADERS = 0, RESPONSE_HEADERS = 2 } Map;
typedef enum { LOG_DEBUG = 1, LOG_INFO = 2, LOG_WARN = 3, LOG_ERROR = 4 } Level;

// Some bytes. Those that the host gave are valid until the callback returns.
typedef struct {
  const char *at;
  size_t size;
} Text;

#define TEXT(literal) ((Text){"" literal, sizeof(literal) - 1})

// A header's first value; names in lower case, :method, :path and :status among them. Empty when there is none.
Text header(Map map, Text name);
// Replaces all values of a header.
void set_header(Map map, Text name, Text value);
// Adds a value to a header.
void add_header(Map map, Text name, Text value);
// Removes all values of a header.
void remove_header(Map map, Text name);
// Answers the request here; the upstream never sees it. details are a word for the access log.
Action reply(uint32_t status, Text body, Text details);
// Writes a line to the gateway's log.
void log_line(Level level, Text line);
// The plugin's configuration, JSON or nothing: for proxy_on_configure, which is told its size.
Text configuration(uint32_t size);
// The string of a key in a JSON object without objects or lists inside, as it is written: escapes stay. Empty when
// there is none.
Text flat_string(Text json, Text key);
// True when both say the same.
bool equal(Text a, Text b);
// The part before a character, or all.
Text before(Text text, char end);
// Both in one. Empty when there is no room.
Text joined(Text a, Text b);

#ifdef PROXYWASM_IMPLEMENTATION

IMPORT(proxy_log) int32_t host_log(Level level, const char *line, size_t size);
IMPORT(proxy_get_header_map_value)
int32_t host_get_header(Map map, const char *name, size_t name_size, const char **value, size_t *value_size);
IMPORT(proxy_replace_header_map_value)
int32_t host_replace_header(Map map, const char *name, size_t name_size, const char *value, size_t value_size);
IMPORT(proxy_add_header_map_value)
int32_t host_add_header(Map map, const char *name, size_t name_size, const char *value, size_t value_size);
IMPORT(proxy_remove_header_map_value) int32_t host_remove_header(Map map, const char *name, size_t name_size);
IMPORT(proxy_get_buffer_bytes)
int32_t host_get_buffer(uint32_t kind, size_t start, size_t most, const char **bytes, size_t *size);
IMPORT(proxy_send_local_response)
int32_t host_send_local_response(uint32_t status, const char *details, size_t details_size, const char *body,
                                 size_t body_size, const char *headers, size_t headers_size, int32_t grpc_status);

EXPORT(proxy_abi_version_0_2_1) void proxy_abi_version(void) {}

// What the host gives, and `joined` makes, lies here one after the other; each callback begins anew (`begin`), so
// that a filter needs no `free`. Larger values than fit are refused, and look absent.
static char arena[128 * 1024];
static size_t arena_used;

EXPORT(malloc) void *arena_take(size_t size) {
  size_t room = sizeof arena - arena_used;
  if (size > room) return 0;
  void *block = arena + arena_used;
  arena_used += (size + 7) & ~(size_t)7;
  if (arena_used > sizeof arena) arena_used = sizeof arena;
  return block;
}

// To be called first in each callback that reads values.
static inline void begin(void) { arena_used = 0; }

Text header(Map map, Text name) {
  Text value = {"", 0};
  if (host_get_header(map, name.at, name.size, &value.at, &value.size) != 0) return TEXT("");
  return value;
}

void set_header(Map map, Text name, Text value) { host_replace_header(map, name.at, name.size, value.at, value.size); }

void add_header(Map map, Text name, Text value) { host_add_header(map, name.at, name.size, value.at, value.size); }

void remove_header(Map map, Text name) { host_remove_header(map, name.at, name.size); }

Action reply(uint32_t status, Text body, Text details) {
  host_send_local_response(status, details.at, details.size, body.at, body.size, 0, 0, -1);
  return PAUSE;
}

void log_line(Level level, Text line) { host_log(level, line.at, line.size); }

Text configuration(uint32_t size) {
  const uint32_t plugin_configuration = 7;
  Text value = {"", 0};
  if (size == 0 || host_get_buffer(plugin_configuration, 0, size, &value.at, &value.size) != 0) return TEXT("");
  return value;
}

bool equal(Text a, Text b) {
  if (a.size != b.size) return false;
  for (size_t i = 0; i < a.size; i++)
    if (a.at[i] != b.at[i]) return false;
  return true;
}

Text before(Text text, char end) {
  size_t size = 0;
  while (size < text.size && text.at[size] != end) size++;
  return (Text){text.at, size};
}

Text joined(Text a, Text b) {
  char *all = arena_take(a.size + b.size);
  if (!all) return TEXT("");
  for (size_t i = 0; i < a.size; i++) all[i] = a.at[i];
  for (size_t i = 0; i < b.size; i++) all[a.size + i] = b.at[i];
  return (Text){all, a.size + b.size};
}

Text flat_string(Text json, Text key) {
  bool is_key = true;
  Text last = TEXT("");
  for (size_t i = 0; i < json.size; i++) {
    if (json.at[i] == ':') is_key = false;
    if (json.at[i] == ',') is_key = true;
    if (json.at[i] != '"') continue;
    size_t start = ++i;
    while (i < json.size && json.at[i] != '"') i += json.at[i] == '\\' ? 2 : 1;
    Text text = {json.at + start, (i < json.size ? i : json.size) - start};
    if (is_key)
      last = text;
    else if (equal(last, key))
      return text;
  }
  return TEXT("");
}

#endif
#endif
