//! Tests of format strings.
