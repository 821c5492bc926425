package main

import "testing"

func TestValuesOfFieldsAreHiddenAtAnyDepth(t *testing.T) {
	m := masker{fields: map[string]bool{"password": true, "token": true}}
	for _, pair := range [][2]string{
		{`{"user": "ada", "password": "secret"}`, `{"user":"ada","password":"***"}`},
		{`[{"b": 1, "a": {"token": {"deep": [1, 2]}}}]`, `[{"b":1,"a":{"token":"***"}}]`},
		{`{"n": 12345678901234567890.10, "t": "<&>"}`, `{"n":12345678901234567890.10,"t":"<&>"}`},
		{`"password"`, `"password"`},
		{`{"a": null} {"password": true}`, `{"a":null}{"password":"***"}`},
		{``, ``},
	} {
		text, want := pair[0], pair[1]
		got, err := m.mask([]byte(text))
		if err != nil || string(got) != want {
			t.Errorf("%s: got %s, %v; want %s", text, got, err, want)
		}
	}
}

func TestWhatIsNoJSONIsAnError(t *testing.T) {
	for _, text := range []string{`{"password": `, `{"a": 1`, `[1,`, `{"a" 1}`, `<html>`, `{"password": x}`} {
		if got, err := (masker{fields: map[string]bool{"password": true}}).mask([]byte(text)); err == nil {
			t.Errorf("%s: got %s", text, got)
		}
	}
}
