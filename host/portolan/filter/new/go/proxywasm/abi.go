package proxywasm

import "unsafe"

// What the host offers.

//go:wasmimport env proxy_log
func hostLog(level int32, line string) int32

//go:wasmimport env proxy_get_header_map_value
func hostGetHeader(headers Headers, name string, at, size *uint32) int32

//go:wasmimport env proxy_replace_header_map_value
func hostReplaceHeader(headers Headers, name, value string) int32

//go:wasmimport env proxy_add_header_map_value
func hostAddHeader(headers Headers, name, value string) int32

//go:wasmimport env proxy_remove_header_map_value
func hostRemoveHeader(headers Headers, name string) int32

//go:wasmimport env proxy_get_buffer_bytes
func hostGetBuffer(buffer int32, start, most uint32, at, size *uint32) int32

//go:wasmimport env proxy_send_local_response
func hostSendLocalResponse(status uint32, details, body, headers string, grpcStatus int32) int32

// pluginConfiguration is the number of the buffer that holds it.
const pluginConfiguration = 7

var (
	plugin struct {
		configure func(string) (Filter, error)
		filter    Filter
	}
	// streams has the requests that are under way, by the host's number.
	streams = map[uint32]Stream{}
	// given is memory that the host fills in and that nobody has read yet: kept from the garbage collector.
	given = map[uint32][]byte{}
)

// taken is what the host put into memory that it asked for.
func taken(at, size uint32) string {
	block := given[at]
	delete(given, at)
	if size == 0 || uint32(len(block)) < size {
		return ""
	}
	return unsafe.String(&block[0], size)
}

// What the host calls. It calls nothing that is not here: to see bodies, export proxy_on_request_body likewise.

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
	config := ""
	if size > 0 {
		var at, length uint32
		if hostGetBuffer(pluginConfiguration, 0, size, &at, &length) != 0 {
			return 0
		}
		config = taken(at, length)
	}
	filter, err := plugin.configure(config)
	if err != nil {
		Error("invalid configuration: " + err.Error())
		return 0
	}
	plugin.filter = filter
	return 1
}

//go:wasmexport proxy_on_context_create
func onContextCreate(context, parent uint32) {
	// The context without parent is the plugin's own.
	if parent != 0 {
		streams[context] = plugin.filter.NewStream()
	}
}

//go:wasmexport proxy_on_request_headers
func onRequestHeaders(context, count, end uint32) Action {
	return streams[context].OnRequestHeaders(end != 0)
}

//go:wasmexport proxy_on_response_headers
func onResponseHeaders(context, count, end uint32) Action {
	return streams[context].OnResponseHeaders(end != 0)
}

//go:wasmexport proxy_on_delete
func onDelete(context uint32) {
	delete(streams, context)
}
