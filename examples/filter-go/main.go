//go:build wasip1

// A filter in Go without any SDK: hides the values of some fields in JSON responses.
package main

import (
	"encoding/json"
	"errors"
	"strings"
)

// config is what a WasmPlugin writes under pluginConfig.
type config struct {
	// Fields are keys of JSON objects.
	Fields []string `json:"fields"`
}

// stream is one request with its response.
type stream struct {
	// isJSON says that the response's body is read.
	isJSON bool
}

// plugin is the configuration: one for each worker, shared by all its requests.
var plugin masker

// The module is a library to the host: main is never called.
func main() {}

// configure reads pluginConfig. An error refuses it and is told to whoever wrote it.
func configure(text string) error {
	var read config
	if err := json.Unmarshal([]byte(text), &read); err != nil {
		return err
	}
	if len(read.Fields) == 0 {
		return errors.New("`fields` names no field")
	}
	plugin.fields = map[string]bool{}
	for _, field := range read.Fields {
		plugin.fields[field] = true
	}
	return nil
}

func (s *stream) onResponseHeaders(end bool) action {
	mediaType, _, _ := strings.Cut(responseHeader("content-type"), ";")
	mediaType = strings.ToLower(strings.TrimSpace(mediaType))
	s.isJSON = !end && (mediaType == "application/json" || strings.HasSuffix(mediaType, "+json"))
	if s.isJSON {
		// The length changes; the host finds out the new one.
		removeResponseHeader("content-length")
	}
	return goOn
}

func (s *stream) onResponseBody(size uint32, end bool) action {
	if !s.isJSON {
		return goOn
	}
	if !end {
		// The host keeps what is there, up to its limit of 1 MiB, and shows all of it at the next call.
		return wait
	}
	masked, err := plugin.mask(responseBody(size))
	if err != nil {
		// What cannot be read cannot be masked, and must not get out.
		logError("the response is no JSON: " + err.Error())
		masked = []byte(`{"error":"the response is no JSON"}`)
	}
	setResponseBody(size, masked)
	return goOn
}
