//! Istio kinds.
