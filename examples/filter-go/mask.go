package main

import (
	"bytes"
	"encoding/json"
	"io"
)

// masker hides values in JSON texts.
type masker struct {
	// fields are the keys whose values nobody may see, at any depth.
	fields map[string]bool
}

// hidden stands where a value was.
var hidden = []byte(`"***"`)

// mask copies a JSON text with the values of its fields hidden. Everything else stays as it is, the order of keys and
// the spelling of numbers too; blanks go. An error says that the text is no JSON.
func (m masker) mask(text []byte) ([]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var out bytes.Buffer
	for {
		switch err := m.value(decoder, &out); err {
		case nil:
		case io.EOF:
			return out.Bytes(), nil
		default:
			return nil, err
		}
	}
}

// value copies one value with all that is in it.
func (m masker) value(decoder *json.Decoder, out *bytes.Buffer) error {
	token, err := decoder.Token()
	if err != nil {
		return err
	}
	opening, ok := token.(json.Delim)
	if !ok {
		return write(out, token)
	}
	out.WriteRune(rune(opening))
	for first := true; decoder.More(); first = false {
		if !first {
			out.WriteByte(',')
		}
		if opening == '{' {
			err = m.member(decoder, out)
		} else {
			err = m.value(decoder, out)
		}
		if err != nil {
			return unexpected(err)
		}
	}
	closing, err := decoder.Token()
	if err != nil {
		return unexpected(err)
	}
	out.WriteRune(rune(closing.(json.Delim)))
	return nil
}

// member copies a key and its value.
func (m masker) member(decoder *json.Decoder, out *bytes.Buffer) error {
	key, err := decoder.Token()
	if err != nil {
		return err
	}
	if err := write(out, key); err != nil {
		return err
	}
	out.WriteByte(':')
	name, _ := key.(string)
	if !m.fields[name] {
		return m.value(decoder, out)
	}
	var passedOver json.RawMessage
	if err := decoder.Decode(&passedOver); err != nil {
		return err
	}
	out.Write(hidden)
	return nil
}

// write is a string, number, boolean or null as JSON.
func write(out *bytes.Buffer, token json.Token) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(token); err != nil {
		return err
	}
	// The encoder ends each value with a newline.
	out.Truncate(out.Len() - 1)
	return nil
}

// unexpected tells an end inside of a value from the end of the text.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
