//! Kubernetes core kinds.
