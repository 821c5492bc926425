//! Tests of the admin port over real sockets.
