//! Shared data, shared queues, metrics: what VMs have in common.

use crate::support::probe::Probe;

#[test]
fn shared_data_has_compare_and_swap() {
    let probe = Probe::start();
    let script = "request_headers { set_shared_data 'k' 'v' 0; get_shared_data 'k' && &; set_shared_data 'k' 'w' 77; \
                  set_shared_data 'k' 'w' $out; get_shared_data 'k' && &; get_shared_data 'none' && &; \
                  set_shared_data 'new' 'x' 5; set_shared_data 'k' 'again' 0; get_shared_data 'k' && & }";
    assert_eq!(
        probe.saw(script).of("request_headers"),
        "set_shared_data=0 get_shared_data=0:v:1 set_shared_data=8 set_shared_data=0 get_shared_data=0:w:2 \
         get_shared_data=1::0 set_shared_data=0 set_shared_data=0 get_shared_data=0:again:4"
    );
}

#[test]
fn shared_data_is_seen_by_every_worker() {
    let probe = Probe::start();
    assert_eq!(probe.get("request_headers { set_shared_data 'k' 'seen' 0 }").status, 200);
    // Connections are spread over two workers.
    for _ in 0..20 {
        let saw = probe.saw("request_headers { get_shared_data 'k' && & }");
        assert!(saw.of("request_headers").starts_with("get_shared_data=0:seen:"), "{saw:?}");
    }
}

#[test]
fn queues_are_first_in_first_out() {
    let probe = Probe::start();
    let script = "request_headers { register_shared_queue 'q' &; keep; register_shared_queue 'q' &; \
                  resolve_shared_queue '' 'q' &; resolve_shared_queue 'other' 'q' &; resolve_shared_queue '' 'none' &; \
                  enqueue_shared_queue $kept 'a'; enqueue_shared_queue $kept 'b'; dequeue_shared_queue $kept &&; \
                  dequeue_shared_queue $kept &&; dequeue_shared_queue $kept &&; enqueue_shared_queue 99999 'a'; \
                  dequeue_shared_queue 99999 && }";
    assert_eq!(
        probe.saw(script).of("request_headers"),
        "register_shared_queue=0:1 register_shared_queue=0:1 resolve_shared_queue=0:1 resolve_shared_queue=1:0 \
         resolve_shared_queue=1:0 enqueue_shared_queue=0 enqueue_shared_queue=0 dequeue_shared_queue=0:a \
         dequeue_shared_queue=0:b dequeue_shared_queue=7: enqueue_shared_queue=1 dequeue_shared_queue=1:"
    );
}

#[test]
fn metrics_count_as_their_kind_says() {
    let probe = Probe::start();
    let script = "request_headers { define_metric 0 'c_total' &; keep; define_metric 0 'c_total' &; \
                  increment_metric $kept 3; record_metric $kept 4; increment_metric $kept 0; increment_metric $kept -1; \
                  get_metric $kept &8 } \
                  response_headers { define_metric 1 'g' &; keep; record_metric $kept 9; increment_metric $kept -4; \
                  get_metric $kept &8; define_metric 2 'h' &; keep; record_metric $kept 9; increment_metric $kept 1; \
                  get_metric $kept &8; record_metric 9999 1; get_metric 99996 &8; define_metric 3 'x' & }";
    let saw = probe.saw(script);
    let counter = saw.of("request_headers");
    assert!(
        counter.ends_with("increment_metric=0 record_metric=0 increment_metric=2 increment_metric=2 get_metric=0:7"),
        "{counter}"
    );
    let others = saw.of("response_headers");
    assert!(others.contains("record_metric=0 increment_metric=0 get_metric=0:5 "), "{others}");
    assert!(
        others.ends_with(
            "record_metric=0 increment_metric=2 get_metric=2:0 record_metric=1 get_metric=1:0 define_metric=2:0"
        ),
        "{others}"
    );
    let page = probe.gateway.admin("/stats/prometheus").text();
    assert!(page.contains("c_total"), "the page has what filters count");
}
