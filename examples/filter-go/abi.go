//go:build wasip1

package main

import "unsafe"

// The proxy-wasm ABI 0.2.1, as far as this filter needs it. What the host offers:

//go:wasmimport env proxy_log
func hostLog(level int32, line string) int32

//go:wasmimport env proxy_get_header_map_value
func hostGetHeader(headers int32, name string, at, size *uint32) int32

//go:wasmimport env proxy_remove_header_map_value
func hostRemoveHeader(headers int32, name string) int32

//go:wasmimport env proxy_get_buffer_bytes
func hostGetBuffer(buffer int32, start, most uint32, at, size *uint32) int32

//go:wasmimport env proxy_set_buffer_bytes
func hostSetBuffer(buffer int32, start, size uint32, value string) int32

// Numbers of header maps and buffers.
const (
	responseHeaders     = 2
	responseBodyBuffer  = 1
	pluginConfiguration = 7
)

// action is what happens to the message after a callback.
type action uint32

const (
	goOn action = 0
	wait action = 1
)

// responseHeader is a header's first value, or nothing.
func responseHeader(name string) string {
	var at, size uint32
	if hostGetHeader(responseHeaders, name, &at, &size) != 0 {
		return ""
	}
	return string(taken(at, size))
}

func removeResponseHeader(name string) {
	hostRemoveHeader(responseHeaders, name)
}

// responseBody is all that is there of it.
func responseBody(size uint32) []byte {
	var at, length uint32
	if hostGetBuffer(responseBodyBuffer, 0, size, &at, &length) != 0 {
		return nil
	}
	return taken(at, length)
}

// setResponseBody puts bytes in the place of the first size bytes.
func setResponseBody(size uint32, body []byte) {
	hostSetBuffer(responseBodyBuffer, 0, size, string(body))
}

func logError(line string) {
	hostLog(4, line)
}

var (
	// streams has the requests that are under way, by the host's number.
	streams = map[uint32]*stream{}
	// given is memory that the host fills in and that nobody has read yet: kept from the garbage collector.
	given = map[uint32][]byte{}
)

// taken is what the host put into memory that it asked for.
func taken(at, size uint32) []byte {
	block := given[at]
	delete(given, at)
	return block[:min(size, uint32(len(block)))]
}

// What the host calls. It calls nothing that is not here.

//go:wasmexport proxy_abi_version_0_2_1
func abiVersion() {}

//go:wasmexport proxy_on_memory_allocate
func onMemoryAllocate(size uint32) uint32 {
	block := make([]byte, max(size, 1))
	at := uint32(uintptr(unsafe.Pointer(&block[0])))
	given[at] = block
	return at
}

//go:wasmexport proxy_on_configure
func onConfigure(context, size uint32) uint32 {
	var at, length uint32
	text := ""
	if size > 0 && hostGetBuffer(pluginConfiguration, 0, size, &at, &length) == 0 {
		text = string(taken(at, length))
	}
	if err := configure(text); err != nil {
		logError("invalid configuration: " + err.Error())
		return 0
	}
	return 1
}

//go:wasmexport proxy_on_context_create
func onContextCreate(context, parent uint32) {
	// The context without a parent is the plugin's own.
	if parent != 0 {
		streams[context] = &stream{}
	}
}

//go:wasmexport proxy_on_response_headers
func onResponseHeaders(context, count, end uint32) action {
	return streams[context].onResponseHeaders(end != 0)
}

//go:wasmexport proxy_on_response_body
func onResponseBody(context, size, end uint32) action {
	return streams[context].onResponseBody(size, end != 0)
}

//go:wasmexport proxy_on_delete
func onDelete(context uint32) {
	delete(streams, context)
}
