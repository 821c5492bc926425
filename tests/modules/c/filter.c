// A filter in C without any library: malloc of its own, the ABI by attributes.
#include <stddef.h>
#include <stdint.h>

#define IMPORT(name) __attribute__((import_module("env"), import_name(#name)))
#define EXPORT(name) __attribute__((export_name(#name)))

IMPORT(proxy_get_header_map_value) uint32_t proxy_get_header_map_value(uint32_t map, const char *name, size_t name_size, char **value, size_t *value_size);
IMPORT(proxy_add_header_map_value) uint32_t proxy_add_header_map_value(uint32_t map, const char *name, size_t name_size, const char *value, size_t value_size);
IMPORT(proxy_get_buffer_bytes) uint32_t proxy_get_buffer_bytes(uint32_t kind, uint32_t start, uint32_t max, char **data, size_t *size);

static char heap[65536];
static size_t used;

EXPORT(malloc) void *malloc_for_host(size_t size) {
  if (size > sizeof heap) return 0;
  if (used + size > sizeof heap) used = 0;
  void *block = heap + used;
  used += (size + 7) & ~(size_t)7;
  return block;
}

static char stamp[64];
static size_t stamp_size;

EXPORT(proxy_abi_version_0_2_0) void version(void) {}
EXPORT(proxy_on_context_create) void on_context_create(uint32_t id, uint32_t parent) {}
EXPORT(proxy_on_vm_start) uint32_t on_vm_start(uint32_t root, uint32_t size) { return 1; }

EXPORT(proxy_on_configure) uint32_t on_configure(uint32_t root, uint32_t size) {
  char *data = 0;
  if (size && proxy_get_buffer_bytes(7, 0, size, &data, &stamp_size) != 0) return 0;
  if (stamp_size > sizeof stamp) stamp_size = sizeof stamp;
  for (size_t at = 0; at < stamp_size; at++) stamp[at] = data[at];
  return 1;
}

EXPORT(proxy_on_request_headers) uint32_t on_request_headers(uint32_t id, uint32_t count, uint32_t end) {
  char *path = 0;
  size_t size = 0;
  if (proxy_get_header_map_value(0, ":path", 5, &path, &size) == 0) proxy_add_header_map_value(0, "x-c-path", 8, path, size);
  if (size == 6 && path[1] == 'p' && path[2] == 'a') __builtin_trap();
  return 0;
}

EXPORT(proxy_on_response_headers) uint32_t on_response_headers(uint32_t id, uint32_t count, uint32_t end) {
  proxy_add_header_map_value(2, "x-c", 3, stamp, stamp_size);
  return 0;
}
