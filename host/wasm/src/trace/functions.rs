//! The host functions by name: what each is in a word, what its parameters are, and which of them the host fills in.

/// A host function as the trace tells of it.
#[derive(Debug)]
pub(crate) struct Function {
    pub(super) name: &'static str,
    /// `{map}` and `{buffer}` stand for the kind that the call names.
    pub(super) word: &'static str,
    /// In the order of the parameters.
    pub(super) parts: &'static [Part],
}

/// One or two parameters. The text is the label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Kind of a header map.
    Map,
    /// Kind of a buffer.
    Buffer,
    /// Start and size; left out for the whole.
    Range,
    /// Address and length of a text.
    Text(&'static str),
    /// The same of a property's path.
    Path,
    /// The same of a text that is not shown.
    Secret(&'static str),
    /// The same of a list of pairs.
    Pairs(&'static str),
    Number(&'static str),
    Signed(&'static str),
    /// 64 bits.
    Long(&'static str),
    Millis(&'static str),
    Flag(&'static str),
    Level,
    MetricKind,
    /// A metric's number, shown as its name.
    Metric,
    /// Direction of `continue_stream`.
    Stream,
    /// Address and number of pieces of a text, as WASI has it.
    Pieces,
    /// Not shown.
    Skip,
    /// Addresses where address and length of a text go.
    OutText(&'static str),
    /// The same for a property's value.
    OutProperty,
    /// The same for a list of pairs.
    OutPairs,
    /// Address where a number goes.
    OutNumber(&'static str),
    /// The same for 64 bits.
    OutLong,
    /// The same for a log level.
    OutLevel,
}

impl Part {
    /// How many parameters it takes.
    pub(super) fn width(self) -> usize {
        match self {
            Self::Range | Self::Text(_) | Self::Path | Self::Secret(_) | Self::Pairs(_) | Self::Pieces => 2,
            Self::OutText(_) | Self::OutProperty | Self::OutPairs => 2,
            _ => 1,
        }
    }
}

/// The function of this name; none for WASI's but the one that writes.
pub(crate) fn function(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|function| function.name == name)
}

const fn f(name: &'static str, word: &'static str, parts: &'static [Part]) -> Function {
    Function { name, word, parts }
}

use Part::{
    Buffer, Flag, Level, Long, Map, Metric, MetricKind, Millis, Number, OutLevel, OutLong, OutNumber, OutPairs,
    OutProperty, OutText, Pairs, Path, Pieces, Range, Secret, Signed, Skip, Stream, Text,
};

const FUNCTIONS: &[Function] = &[
    f("proxy_get_header_map_value", "get_{map}", &[Map, Text(""), OutText("")]),
    f("proxy_get_header_map_pairs", "get_{map}s", &[Map, OutPairs]),
    f("proxy_get_header_map_size", "get_{map}s_size", &[Map, OutNumber("")]),
    f("proxy_add_header_map_value", "add_{map}", &[Map, Text(""), Text("")]),
    f("proxy_replace_header_map_value", "set_{map}", &[Map, Text(""), Text("")]),
    f("proxy_remove_header_map_value", "remove_{map}", &[Map, Text("")]),
    f("proxy_set_header_map_pairs", "set_{map}s", &[Map, Pairs("")]),
    f("proxy_get_buffer_bytes", "get_{buffer}", &[Buffer, Range, OutText("")]),
    f("proxy_set_buffer_bytes", "set_{buffer}", &[Buffer, Range, Text("")]),
    f("proxy_get_buffer_status", "get_{buffer}_size", &[Buffer, OutNumber(""), Skip]),
    f("proxy_get_configuration", "get_configuration", &[OutText("")]),
    f("proxy_get_property", "get_property", &[Path, OutProperty]),
    f("proxy_set_property", "set_property", &[Path, Text("")]),
    f(
        "proxy_send_local_response",
        "send_local_response",
        &[Number(""), Text("details"), Text("body"), Pairs("headers"), Signed("grpc_status")],
    ),
    f("proxy_continue_stream", "continue_stream", &[Stream]),
    f("proxy_close_stream", "close_stream", &[Stream]),
    f("proxy_continue_request", "continue_request", &[]),
    f("proxy_continue_response", "continue_response", &[]),
    f("proxy_clear_route_cache", "clear_route_cache", &[]),
    f("proxy_set_effective_context", "set_effective_context", &[Number("")]),
    f("proxy_done", "done", &[]),
    f("proxy_get_status", "get_status", &[OutNumber(""), OutText("message")]),
    f("proxy_log", "log", &[Level, Text("")]),
    f("proxy_get_log_level", "get_log_level", &[OutLevel]),
    f("proxy_get_current_time_nanoseconds", "get_current_time", &[OutLong]),
    f("proxy_set_tick_period_milliseconds", "set_tick_period", &[Millis("")]),
    f(
        "proxy_http_call",
        "http_call",
        &[Text(""), Pairs(""), Text("body"), Pairs("trailers"), Millis("timeout"), OutNumber("call")],
    ),
    f(
        "proxy_grpc_call",
        "grpc_call",
        &[
            Text(""),
            Text("service"),
            Text("method"),
            Pairs("metadata"),
            Text("message"),
            Millis("timeout"),
            OutNumber("call"),
        ],
    ),
    f(
        "proxy_grpc_stream",
        "grpc_stream",
        &[Text(""), Text("service"), Text("method"), Pairs("metadata"), OutNumber("call")],
    ),
    f("proxy_grpc_send", "grpc_send", &[Number("call"), Text("message"), Flag("end")]),
    f("proxy_grpc_close", "grpc_close", &[Number("call")]),
    f("proxy_grpc_cancel", "grpc_cancel", &[Number("call")]),
    f("proxy_redis_init", "redis_init", &[Text(""), Text("username"), Secret("password"), Millis("timeout")]),
    f("proxy_redis_call", "redis_call", &[Text(""), Text(""), OutNumber("call")]),
    f("proxy_get_shared_data", "get_shared_data", &[Text(""), OutText(""), OutNumber("cas")]),
    f("proxy_set_shared_data", "set_shared_data", &[Text(""), Text(""), Number("cas")]),
    f("proxy_register_shared_queue", "register_shared_queue", &[Text(""), OutNumber("queue")]),
    f("proxy_resolve_shared_queue", "resolve_shared_queue", &[Text(""), Text(""), OutNumber("queue")]),
    f("proxy_enqueue_shared_queue", "enqueue_shared_queue", &[Number("queue"), Text("")]),
    f("proxy_dequeue_shared_queue", "dequeue_shared_queue", &[Number("queue"), OutText("")]),
    f("proxy_define_metric", "define_metric", &[MetricKind, Text(""), OutNumber("metric")]),
    f("proxy_record_metric", "record_metric", &[Metric, Long("")]),
    f("proxy_increment_metric", "increment_metric", &[Metric, Long("")]),
    f("proxy_get_metric", "get_metric", &[Metric, OutLong]),
    f("proxy_call_foreign_function", "call_foreign_function", &[Text(""), Text(""), OutText("")]),
    // Standard output and error go to the log.
    f("fd_write", "write", &[Number(""), Pieces, Skip]),
];
