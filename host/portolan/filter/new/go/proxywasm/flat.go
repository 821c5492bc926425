package proxywasm

import (
	"errors"
	"unicode/utf16"
)

// ParseFlat reads a JSON object whose values are strings. Nothing at all counts as an empty object.
func ParseFlat(text string) (map[string]string, error) {
	values := map[string]string{}
	if text == "" {
		return values, nil
	}
	p := parser{rest: text}
	if !p.take('{') {
		return nil, errors.New("it is no object")
	}
	for !p.take('}') {
		if len(values) > 0 && !p.take(',') {
			return nil, errors.New("a comma is missing")
		}
		key, ok := p.text()
		if !ok || !p.take(':') {
			return nil, errors.New("it is no JSON")
		}
		if values[key], ok = p.text(); !ok {
			return nil, errors.New("`" + key + "` is no string")
		}
	}
	if p.blanks(); p.rest != "" {
		return nil, errors.New("something follows the object")
	}
	return values, nil
}

// parser has what is not read yet.
type parser struct {
	rest string
}

func (p *parser) blanks() {
	for p.rest != "" && (p.rest[0] == ' ' || p.rest[0] == '\n' || p.rest[0] == '\t' || p.rest[0] == '\r') {
		p.rest = p.rest[1:]
	}
}

// take reads this character, if it comes next.
func (p *parser) take(wanted byte) bool {
	p.blanks()
	if p.rest == "" || p.rest[0] != wanted {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

// text reads a string.
func (p *parser) text() (string, bool) {
	if !p.take('"') {
		return "", false
	}
	var out []byte
	for p.rest != "" {
		c := p.rest[0]
		p.rest = p.rest[1:]
		switch {
		case c == '"':
			return string(out), true
		case c == '\\':
			char, ok := p.escaped()
			if !ok {
				return "", false
			}
			out = append(out, string(char)...)
		default:
			out = append(out, c)
		}
	}
	return "", false
}

// escaped reads what follows a backslash.
func (p *parser) escaped() (rune, bool) {
	if p.rest == "" {
		return 0, false
	}
	c := p.rest[0]
	p.rest = p.rest[1:]
	switch c {
	case '"', '\\', '/':
		return rune(c), true
	case 'b':
		return '\b', true
	case 'f':
		return '\f', true
	case 'n':
		return '\n', true
	case 'r':
		return '\r', true
	case 't':
		return '\t', true
	case 'u':
		first, ok := p.hex()
		if ok && utf16.IsSurrogate(first) && len(p.rest) >= 6 && p.rest[0] == '\\' && p.rest[1] == 'u' {
			p.rest = p.rest[2:]
			second, ok := p.hex()
			return utf16.DecodeRune(first, second), ok
		}
		return first, ok
	}
	return 0, false
}

// hex reads four hexadecimal digits.
func (p *parser) hex() (rune, bool) {
	if len(p.rest) < 4 {
		return 0, false
	}
	var value rune
	for _, c := range []byte(p.rest[:4]) {
		switch {
		case c >= '0' && c <= '9':
			value = value<<4 | rune(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			value = value<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	p.rest = p.rest[4:]
	return value, true
}
