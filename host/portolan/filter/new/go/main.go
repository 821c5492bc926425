// A filter: stamps every response, and greets at /hello.
package main

import (
	"errors"
	"strings"

	"my-filter/proxywasm"
)

// filter is what one configuration makes: one for each worker, shared by all its requests.
type filter struct {
	stamp string
}

// stream is one request with its response: what it keeps between its callbacks stands here.
type stream struct {
	filter *filter
}

// The module is a library to the host: main is never called, init is.
func main() {}

func init() {
	proxywasm.Register(configure)
}

// configure reads pluginConfig; in `portolan filter dev` and `test`, config of filter.yaml.
func configure(config string) (proxywasm.Filter, error) {
	// encoding/json does as well, and more; it makes the module 2.5 MB larger, which the host compiles at each load.
	values, err := proxywasm.ParseFlat(config)
	if err != nil {
		return nil, err
	}
	if values["stamp"] == "" {
		return nil, errors.New("`stamp` is missing or empty")
	}
	return &filter{stamp: values["stamp"]}, nil
}

func (f *filter) NewStream() proxywasm.Stream {
	return &stream{filter: f}
}

func (s *stream) OnRequestHeaders(endOfStream bool) proxywasm.Action {
	path, _, _ := strings.Cut(proxywasm.Request.Get(":path"), "?")
	if path != "/hello" {
		return proxywasm.Continue
	}
	user := proxywasm.Request.Get("x-user")
	if user == "" {
		user = "stranger"
	}
	return proxywasm.Reply(200, "hello, "+user+"\n", "greeted")
}

func (s *stream) OnResponseHeaders(endOfStream bool) proxywasm.Action {
	proxywasm.Response.Set("x-stamp", s.filter.stamp)
	return proxywasm.Continue
}
