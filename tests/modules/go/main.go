// A filter in plain Go, without any SDK: the ABI by go:wasmimport and go:wasmexport. It uses large parts of the standard
// library, so that its module is as large as those of real Go filters.
package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"html/template"
	"math/rand"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"
	"unsafe"
)

//go:wasmimport env proxy_log
func proxyLog(level int32, text unsafe.Pointer, size int32) int32

//go:wasmimport env proxy_get_header_map_value
func proxyGetHeaderMapValue(kind int32, name unsafe.Pointer, nameSize int32, value unsafe.Pointer, valueSize unsafe.Pointer) int32

//go:wasmimport env proxy_add_header_map_value
func proxyAddHeaderMapValue(kind int32, name unsafe.Pointer, nameSize int32, value unsafe.Pointer, valueSize int32) int32

//go:wasmimport env proxy_get_buffer_bytes
func proxyGetBufferBytes(kind, start, max int32, data unsafe.Pointer, size unsafe.Pointer) int32

//go:wasmimport env proxy_send_local_response
func proxySendLocalResponse(code int32, details unsafe.Pointer, detailsSize int32, body unsafe.Pointer, bodySize int32, headers unsafe.Pointer, headersSize int32, grpc int32) int32

type config struct {
	Stamp string `json:"stamp"`
}

var (
	settings config
	// What the host was given and has not been read yet: kept from the garbage collector.
	blocks  = map[uint32][]byte{}
	streams = map[uint32]int{}
	digits  = regexp.MustCompile(`^/v(\d+)/`)
	page    = template.Must(template.New("page").Parse(`<p>{{.}}</p>`))
)

func main() {}

//go:wasmexport proxy_abi_version_0_2_1
func abi() {}

//go:wasmexport proxy_on_memory_allocate
func allocate(size uint32) uint32 {
	block := make([]byte, max(size, 1))
	at := uint32(uintptr(unsafe.Pointer(&block[0])))
	blocks[at] = block
	return at
}

func taken(at, size uint32) string {
	block := blocks[at]
	delete(blocks, at)
	if block == nil {
		return ""
	}
	return string(block[:size])
}

func log(text string) {
	proxyLog(2, unsafe.Pointer(unsafe.StringData(text)), int32(len(text)))
}

func header(kind int32, name string) string {
	var at, size uint32
	status := proxyGetHeaderMapValue(kind, unsafe.Pointer(unsafe.StringData(name)), int32(len(name)), unsafe.Pointer(&at), unsafe.Pointer(&size))
	if status != 0 {
		return ""
	}
	return taken(at, size)
}

func addHeader(kind int32, name, value string) {
	proxyAddHeaderMapValue(kind, unsafe.Pointer(unsafe.StringData(name)), int32(len(name)), unsafe.Pointer(unsafe.StringData(value)), int32(len(value)))
}

//go:wasmexport proxy_on_context_create
func onContextCreate(id, parent uint32) {
	if parent != 0 {
		streams[id] = 0
	}
}

//go:wasmexport proxy_on_vm_start
func onVMStart(root, size uint32) uint32 { return 1 }

//go:wasmexport proxy_on_configure
func onConfigure(root, size uint32) uint32 {
	if size == 0 {
		return 1
	}
	var at, length uint32
	if proxyGetBufferBytes(7, 0, int32(size), unsafe.Pointer(&at), unsafe.Pointer(&length)) != 0 {
		return 0
	}
	if err := json.Unmarshal([]byte(taken(at, length)), &settings); err != nil {
		log(err.Error())
		return 0
	}
	return 1
}

//go:wasmexport proxy_on_request_headers
func onRequestHeaders(id, count, end uint32) uint32 {
	path := header(0, ":path")
	switch {
	case path == "/panic":
		panic("asked to panic")
	case path == "/exit":
		os.Exit(3)
	case path == "/loop":
		for {
			time.Sleep(time.Millisecond)
		}
	case path == "/reply":
		var body strings.Builder
		_ = page.Execute(&body, path)
		text := body.String()
		proxySendLocalResponse(http.StatusTeapot, nil, 0, unsafe.Pointer(unsafe.StringData(text)), int32(len(text)), nil, 0, -1)
		return 1
	}
	if found := digits.FindStringSubmatch(path); found != nil {
		addHeader(0, "x-go-version", found[1])
	}
	if parsed, err := url.Parse(path); err == nil {
		addHeader(0, "x-go-query", parsed.Query().Get("q"))
	}
	addHeader(0, "x-go-hash", fmt.Sprintf("%x", sha256.Sum256([]byte(path)))[:8])
	addHeader(0, "x-go-random", fmt.Sprint(rand.Int63()))
	addHeader(0, "x-go-time", time.Now().UTC().Format(time.RFC3339))
	return 0
}

//go:wasmexport proxy_on_request_body
func onRequestBody(id, size, end uint32) uint32 {
	streams[id] += int(size)
	return 0
}

//go:wasmexport proxy_on_response_headers
func onResponseHeaders(id, count, end uint32) uint32 {
	addHeader(2, "x-go", settings.Stamp)
	addHeader(2, "x-go-body", fmt.Sprint(streams[id]))
	fmt.Println("a line on standard output")
	go func() { fmt.Fprintln(os.Stderr, "a line of a goroutine") }()
	time.Sleep(time.Microsecond)
	return 0
}

//go:wasmexport proxy_on_delete
func onDelete(id uint32) { delete(streams, id) }
