// Package proxywasm is the proxy-wasm ABI 0.2.1 for Go's own compiler, as far as this filter needs it. The whole ABI:
// https://github.com/proxy-wasm/spec/tree/main/abi-versions/v0.2.1
package proxywasm

// Filter is one configuration of the plugin.
type Filter interface {
	// NewStream is called when a request begins.
	NewStream() Stream
}

// Stream is one request with its response.
type Stream interface {
	// OnRequestHeaders sees the request before the upstream does. endOfStream says that no body follows.
	OnRequestHeaders(endOfStream bool) Action
	// OnResponseHeaders sees the upstream's response, or the one of Reply, before the client does.
	OnResponseHeaders(endOfStream bool) Action
}

// Action is what happens to the message after a callback.
type Action uint32

const (
	// Continue sends it on.
	Continue Action = 0
	// Pause keeps it, until Reply or a later callback says more.
	Pause Action = 1
)

// Headers is one of the header maps, readable and writable in its own callback.
type Headers int32

const (
	// Request holds :method, :path, :authority and the header fields, names in lower case.
	Request Headers = 0
	// Response holds :status and the header fields.
	Response Headers = 2
)

// Register names the function that turns the plugin's configuration, JSON or nothing, into a filter. An error refuses
// the configuration and is told to whoever wrote it.
func Register(configure func(config string) (Filter, error)) {
	plugin.configure = configure
}

// Get is a header's first value, or nothing.
func (h Headers) Get(name string) string {
	var at, size uint32
	if hostGetHeader(h, name, &at, &size) != 0 {
		return ""
	}
	return taken(at, size)
}

// Set replaces all values of a header.
func (h Headers) Set(name, value string) {
	hostReplaceHeader(h, name, value)
}

// Add adds a value to a header.
func (h Headers) Add(name, value string) {
	hostAddHeader(h, name, value)
}

// Remove removes all values of a header.
func (h Headers) Remove(name string) {
	hostRemoveHeader(h, name)
}

// Reply answers the request here; the upstream never sees it. details are a word for the access log. Return what it
// returns.
func Reply(status uint32, body, details string) Action {
	hostSendLocalResponse(status, details, body, "", -1)
	return Pause
}

// Info writes a line to the gateway's log.
func Info(line string) {
	hostLog(2, line)
}

// Error writes a line to the gateway's log, at level error.
func Error(line string) {
	hostLog(4, line)
}
