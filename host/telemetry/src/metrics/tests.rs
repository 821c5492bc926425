//! Tests of the metrics page.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::*;

/// A page by series, after checking its form: each family once, its HELP and TYPE first, its samples together.
fn parse(page: &str) -> BTreeMap<String, f64> {
    let mut families = BTreeSet::new();
    let mut family = String::new();
    let mut series = BTreeMap::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            family = rest.split_once(' ').unwrap().0.to_owned();
            assert!(families.insert(family.clone()), "`{family}` comes twice");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, family);
            assert!(["counter", "gauge", "histogram"].contains(&kind));
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with(&family), "`{name}` stands under `{family}`");
            assert!(series.insert(name.to_owned(), value.parse().unwrap()).is_none(), "`{name}` comes twice");
        }
    }
    series
}

fn filled() -> Arc<Metrics> {
    let metrics = Metrics::new();
    let listener = metrics.listener("0.0.0.0:8080".parse().unwrap());
    listener.downstream_cx_total.inc();
    listener.downstream_cx_active.inc();
    let http = metrics.http("0.0.0.0_8080");
    http.downstream_rq_total.inc();
    http.downstream_rq_xx.inc(204);
    let cluster = metrics.cluster("outbound|80|v1|shop.default.svc.cluster.local");
    cluster.upstream_rq_xx.inc(503);
    cluster.upstream_rq_time.observe(Duration::from_micros(700));
    cluster.upstream_rq_time.observe(Duration::from_secs(5));
    let route = metrics.route("shop.example.com:80", "the cart");
    route.upstream_rq.inc(404);
    route.upstream_rq_xx.inc(404);
    metrics.filter("team.auth").traps_total.inc_by(3);
    metrics.config.reload_total.inc("success");
    metrics.config.objects.set("active", 7);
    metrics
}

#[test]
fn names_and_labels_are_envoys() {
    let series = parse(&filled().render());
    let expected = [
        (r#"envoy_listener_downstream_cx_total{envoy_listener_address="0.0.0.0_8080"}"#, 1.0),
        (r#"envoy_listener_downstream_cx_active{envoy_listener_address="0.0.0.0_8080"}"#, 1.0),
        (r#"envoy_http_downstream_rq_total{envoy_http_conn_manager_prefix="outbound_0.0.0.0_8080"}"#, 1.0),
        (
            r#"envoy_http_downstream_rq_xx{envoy_response_code_class="2",envoy_http_conn_manager_prefix="outbound_0.0.0.0_8080"}"#,
            1.0,
        ),
        (
            r#"envoy_cluster_upstream_rq_xx{envoy_response_code_class="5",envoy_cluster_name="outbound|80|v1|shop.default.svc.cluster.local"}"#,
            1.0,
        ),
        (
            r#"envoy_vhost_route_upstream_rq{envoy_response_code="404",envoy_route="the cart",envoy_virtual_host="shop.example.com:80"}"#,
            1.0,
        ),
        (
            r#"envoy_vhost_route_upstream_rq_xx{envoy_response_code_class="4",envoy_route="the cart",envoy_virtual_host="shop.example.com:80"}"#,
            1.0,
        ),
        (
            r#"envoy_vhost_route_upstream_rq_total{envoy_route="the cart",envoy_virtual_host="shop.example.com:80"}"#,
            0.0,
        ),
        (r#"portolan_filter_traps_total{plugin="team.auth"}"#, 3.0),
        (r#"portolan_config_reload_total{result="success"}"#, 1.0),
        (r#"portolan_config_objects{state="active"}"#, 7.0),
        ("envoy_server_total_connections", 1.0),
        ("envoy_cluster_manager_active_clusters", 1.0),
        ("envoy_server_live", 0.0),
    ];
    for (name, value) in expected {
        assert_eq!(series.get(name), Some(&value), "{name}");
    }
}

#[test]
fn histograms_are_cumulative_and_in_milliseconds() {
    let series = parse(&filled().render());
    let cluster = r#"envoy_cluster_name="outbound|80|v1|shop.default.svc.cluster.local""#;
    let bucket = |bound: &str| series[&format!(r#"envoy_cluster_upstream_rq_time_bucket{{{cluster},le="{bound}"}}"#)];
    assert_eq!([bucket("0.5"), bucket("1"), bucket("2500"), bucket("5000"), bucket("+Inf")], [0.0, 1.0, 1.0, 2.0, 2.0]);
    assert_eq!(series[&format!("envoy_cluster_upstream_rq_time_sum{{{cluster}}}")], 5000.7);
    assert_eq!(series[&format!("envoy_cluster_upstream_rq_time_count{{{cluster}}}")], 2.0);
}

#[test]
fn a_duration_on_a_bound_belongs_to_its_bucket() {
    let histogram = Histogram::default();
    for bound in BUCKETS_MS {
        histogram.observe(Duration::from_secs_f64(bound / 1000.0));
    }
    histogram.observe(Duration::MAX);
    let mut samples = Vec::new();
    cells::Cell::collect(&histogram, &[], &mut samples);
    let counts: Vec<u64> = samples[0].get_histogram().get_bucket().iter().map(|b| b.cumulative_count()).collect();
    assert_eq!(counts, (1..=19).collect::<Vec<u64>>());
    assert_eq!(histogram.count(), 20);
}

#[test]
fn the_same_name_keeps_its_counters() {
    let metrics = Metrics::new();
    metrics.cluster("a").upstream_rq_total.inc();
    metrics.cluster("a").upstream_rq_total.inc();
    assert_eq!(metrics.cluster("a").upstream_rq_total.value(), 2);
}

#[test]
fn forgotten_names_leave_the_page_while_their_handles_still_work() {
    let metrics = filled();
    let cluster = metrics.cluster("gone");
    metrics.retain_clusters(|name| name != "gone");
    metrics.forget_listener("0.0.0.0_8080", "0.0.0.0:8080".parse().unwrap());
    metrics.forget_filter("team.auth");
    cluster.upstream_rq_total.inc();
    let page = metrics.render();
    assert!(!page.contains("gone") && !page.contains("0.0.0.0_8080") && !page.contains("team.auth"), "{page}");
    assert!(page.contains("shop.default"));
}

#[test]
fn names_beyond_the_limit_share_one_series() {
    let metrics = Metrics::with_limit(2);
    for name in ["a", "b", "c", "d"] {
        metrics.cluster(name).upstream_rq_total.inc();
    }
    let series = parse(&metrics.render());
    assert_eq!(series[r#"envoy_cluster_upstream_rq_total{envoy_cluster_name="a"}"#], 1.0);
    assert_eq!(series[r#"envoy_cluster_upstream_rq_total{envoy_cluster_name="other"}"#], 2.0);
    assert_eq!(series["portolan_metrics_overflow_total"], 2.0);
    assert!(!series.keys().any(|name| name.contains("\"c\"")));
}

#[test]
fn labels_are_escaped() {
    let metrics = Metrics::new();
    metrics.filter("a\"b\\c\nd").restarts_total.inc();
    let page = metrics.render();
    assert!(page.contains(r#"portolan_filter_restarts_total{plugin="a\"b\\c\nd"} 1"#), "{page}");
    parse(&page);
}

#[test]
fn status_codes_out_of_range_count_nothing() {
    let classes = ResponseClasses::default();
    for code in [0, 99, 600, u16::MAX] {
        classes.inc(code);
    }
    assert_eq!((0..=6).map(|class| classes.value(class)).sum::<u64>(), 0);
}

#[test]
fn labels_in_the_names_of_filters_metrics_are_labels_on_the_page() {
    let metrics = Metrics::new();
    let value = |name: &str, kind| PluginValue { name: name.to_owned(), kind };
    let histogram = || PluginValueKind::Histogram { count: 1, sum: 2, buckets: vec![(1, 1)] };
    let values = vec![
        value("reason=.=expired;.;refused_total", PluginValueKind::Counter(1)),
        value("reason=.=a \"b\"\n;.;refused_total", PluginValueKind::Counter(2)),
        value("b=.=2;.;a=.=1;.;b=.=3;.;refused_total", PluginValueKind::Counter(3)),
        value("a=.=1;.;b=.=2;.;refused_total", PluginValueKind::Counter(9)),
        value("reason=.=other;.;refused_total", PluginValueKind::Gauge(9)),
        value("le=.=1;.;__name__=.=x;.;bytes", histogram()),
        value("9=.=1;.;odd", PluginValueKind::Gauge(4)),
        value("a=.=1;.;", PluginValueKind::Gauge(5)),
        value("a=.=1;.;envoy_server_live", PluginValueKind::Gauge(6)),
    ];
    metrics.set_plugin_values(move || values.clone());
    let page = metrics.render();
    let series = parse(&page);
    assert_eq!(series[r#"refused_total{reason="expired"}"#], 1.0);
    assert!(page.contains(r#"refused_total{reason="a \"b\"\n"} 2"#), "{page}");
    assert_eq!(series[r#"refused_total{a="1",b="2"}"#], 3.0, "the first of two with the same labels");
    assert!(!page.contains("reason=\"other\""), "another kind of the same name");
    assert_eq!(series[r#"bytes_bucket{filter___name__="x",filter_le="1",le="1"}"#], 1.0);
    assert_eq!(series["wasmcustom_9___1___odd"], 4.0, "no label");
    assert_eq!(series["a___1___"], 5.0, "no name");
    assert_eq!(series[r#"wasmcustom_envoy_server_live{a="1"}"#], 6.0);
}

#[test]
fn filters_cannot_take_the_gateways_names() {
    let metrics = Metrics::new();
    let value = |name: &str, kind| PluginValue { name: name.to_owned(), kind };
    let values = vec![
        value("hits", PluginValueKind::Counter(4)),
        value("hits", PluginValueKind::Gauge(5)),
        value("envoy_server_live", PluginValueKind::Gauge(1)),
        value("9 lives}\n# TYPE", PluginValueKind::Gauge(9)),
        value("", PluginValueKind::Counter(1)),
        value("size", PluginValueKind::Histogram { count: 3, sum: 12, buckets: vec![(1, 1), (5, 2)] }),
    ];
    metrics.set_plugin_values(move || values.clone());
    let series = parse(&metrics.render());
    assert_eq!(series["hits"], 4.0);
    assert_eq!(series["envoy_server_live"], 0.0);
    assert_eq!(series["wasmcustom_envoy_server_live"], 1.0);
    assert_eq!(series["wasmcustom_9_lives____TYPE"], 9.0);
    assert_eq!(series[r#"size_bucket{le="+Inf"}"#], 3.0);
}
