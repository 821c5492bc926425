//! What a stream knows of gRPC.

use super::Stream;
use crate::grpc_reply;
use crate::grpc_web::GrpcWeb;

impl Stream {
    /// The request is one of gRPC: what we answer by ourselves is so too.
    pub(crate) fn answers_grpc(&self) {
        self.grpc.set(true);
    }

    /// From here on the request is one of gRPC, if it was one of gRPC-Web.
    pub(crate) fn take_grpc_web(&self) {
        self.grpc_web.set(self.with_state(|state| GrpcWeb::take(&mut state.request.headers)));
    }

    pub(crate) fn grpc_web(&self) -> Option<GrpcWeb> {
        self.grpc_web.get()
    }

    pub(crate) fn is_grpc(&self) -> bool {
        self.grpc.get() || self.with_state(|state| grpc_reply::is_grpc(&state.request.headers))
    }
}
