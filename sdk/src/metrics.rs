//! Metrics of a filter: named and labelled once, mostly in [`configure`](crate::Filter::configure), then moved by handle.
//!
//! ```
//! use portolan_sdk::metrics::{Counter, Family, Gauge, Histogram};
//! use portolan_sdk::prelude::*;
//!
//! struct Metered {
//!     expired: Counter,
//!     malformed: Counter,
//!     size: Histogram,
//!     tenants: Family<Counter>,
//! }
//!
//! impl Filter for Metered {
//!     type Config = NoConfig;
//!     type Stream = ();
//!
//!     fn configure(_: NoConfig) -> Result<Self, ConfigError> {
//!         Gauge::define("tokens_known")?.set(3)?;
//!         let refused = Counter::named("tokens_refused_total");
//!         Ok(Self {
//!             expired: refused.with(&[("reason", "expired")])?,
//!             malformed: refused.with(&[("reason", "malformed")])?,
//!             size: Histogram::define("token_bytes")?,
//!             tenants: Counter::named("tokens_total").by("tenant", 100),
//!         })
//!     }
//!
//!     fn stream(&self) {}
//!
//!     fn on_request_headers(&self, _: &mut (), request: &Request<'_>) -> Result<Action, HostError> {
//!         match request.header_str("x-token")? {
//!             None => self.malformed.increment()?,
//!             Some("old") => self.expired.increment()?,
//!             Some(token) => self.size.record(token.len() as u64)?,
//!         }
//!         self.tenants.of(request.header_str("x-tenant")?.unwrap_or("none"))?.increment()?;
//!         Ok(Action::Continue)
//!     }
//! }
//!
//! portolan_sdk::filter! { Metered: on_request_headers }
//!
//! let host = portolan_sdk::testing::TestHost::<Metered>::start("").expect("any configuration will do");
//! host.stream().request_headers(&[("x-token", "old"), ("x-tenant", "a")]);
//! host.stream().request_headers(&[("x-token", "fresh")]);
//! assert_eq!(host.counter("tokens_refused_total", &[("reason", "expired")]), 1);
//! assert_eq!(host.counter("tokens_refused_total", &[("reason", "malformed")]), 0);
//! assert_eq!(host.counter("tokens_total", &[("tenant", "none")]), 1);
//! assert_eq!(host.gauge("tokens_known", &[]), 3);
//! assert_eq!(host.histogram("token_bytes", &[]), [5]);
//! ```
//!
//! # Labels on the wire
//!
//! The ABI has names and no labels. They go into the name as Istio's filters write them: `LABEL=.=VALUE;.;` for each label,
//! in the order of their names, before the name: `reason=.=expired;.;tokens_refused_total`. Portolan shows them as labels
//! on `/stats/prometheus`. Istio does when the label is among its `extraStatTags`, Envoy with a regular expression of
//! its `stats_tags`; without, each is a metric of its own with a longer name.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::marker::PhantomData;

use crate::raw::calls;
use crate::{HostError, MetricType, Status};

/// Longest value of a label in bytes; what is longer is cut.
const MAX_VALUE: usize = 128;

/// What all label values count as that a [`Family`] has no room for.
const OTHER: &str = "other";

/// A metric of the host without a kind of its own; [`Counter`], [`Gauge`] and [`Histogram`] have one.
///
/// ```
/// # use portolan_sdk::{testing::TestHost, prelude::*, Metric, MetricType};
/// # struct Quiet;
/// # impl Filter for Quiet {
/// #     type Config = NoConfig;
/// #     type Stream = ();
/// #     fn configure(_: NoConfig) -> Result<Self, ConfigError> { Ok(Self) }
/// #     fn stream(&self) {}
/// # }
/// # portolan_sdk::filter! { Quiet: on_log }
/// # let _host = TestHost::<Quiet>::start("").expect("no configuration to refuse");
/// # fn example() -> Result<(), HostError> {
/// let refused = Metric::define(MetricType::Counter, "refused_total")?;
/// refused.increment(2)?;
/// assert_eq!(refused.value()?, 2);
/// # Ok(())
/// # }
/// # example().expect("the test host has metrics");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    id: u32,
}

impl Metric {
    /// Defines a metric, or finds the one of this name.
    pub fn define(kind: MetricType, name: &str) -> Result<Self, HostError> {
        Ok(Self { id: calls::define_metric(kind, name)? })
    }

    /// Adds to a counter or gauge.
    pub fn increment(self, offset: i64) -> Result<(), HostError> {
        calls::increment_metric(self.id, offset)
    }

    /// Sets a gauge, or adds a value to a histogram.
    pub fn record(self, value: u64) -> Result<(), HostError> {
        calls::record_metric(self.id, value)
    }

    /// Reads a counter or gauge.
    pub fn value(self) -> Result<u64, HostError> {
        calls::metric(self.id)
    }
}

/// Counts up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter(Metric);

/// Goes up and down, not below 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauge(Metric);

/// A distribution. Portolan's buckets are Envoy's, from 1 to 3,600,000: record in a unit that fits, as milliseconds do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Histogram(Metric);

/// [`Counter`], [`Gauge`] or [`Histogram`].
pub trait Kind: Copy {
    /// The ABI's number for it.
    #[doc(hidden)]
    const TYPE: MetricType;

    #[doc(hidden)]
    fn of(metric: Metric) -> Self;
}

macro_rules! kind {
    ($kind:ident) => {
        impl Kind for $kind {
            const TYPE: MetricType = MetricType::$kind;

            fn of(metric: Metric) -> Self {
                Self(metric)
            }
        }

        impl $kind {
            /// Defines the metric of this name without labels, or finds it.
            pub fn define(name: &str) -> Result<Self, HostError> {
                Metric::define(MetricType::$kind, name).map(Self)
            }

            /// A name to be given labels. Nothing is defined by it yet.
            pub fn named(name: &str) -> Named<Self> {
                Named { name: name.to_owned(), kind: PhantomData }
            }
        }
    };
}

kind!(Counter);
kind!(Gauge);
kind!(Histogram);

impl Counter {
    /// Adds one.
    pub fn increment(self) -> Result<(), HostError> {
        self.0.increment(1)
    }

    /// Adds a number, which may be 0.
    pub fn add(&self, count: u64) -> Result<(), HostError> {
        if count == 0 { Ok(()) } else { self.0.increment(i64::try_from(count).unwrap_or(i64::MAX)) }
    }

    /// How much it has counted, in all VMs together.
    pub fn value(self) -> Result<u64, HostError> {
        self.0.value()
    }
}

impl Gauge {
    /// Sets it.
    pub fn set(self, value: u64) -> Result<(), HostError> {
        self.0.record(value)
    }

    /// Changes it.
    pub fn add(&self, offset: i64) -> Result<(), HostError> {
        self.0.increment(offset)
    }

    /// Its level.
    pub fn value(self) -> Result<u64, HostError> {
        self.0.value()
    }
}

impl Histogram {
    /// Adds a value.
    pub fn record(self, value: u64) -> Result<(), HostError> {
        self.0.record(value)
    }
}

/// The name of a metric, to be given labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named<M> {
    name: String,
    kind: PhantomData<M>,
}

impl<M: Kind> Named<M> {
    /// The metric with these labels: a handle, for good. A label's name has letters, digits and `_`, and begins with no
    /// digit; else it is an error. A value is cut after 128 bytes, and what would end it early becomes `_`.
    ///
    /// Each set of values is a series, and the host has room for 1,000 of a plugin, then this is an error. Values that
    /// clients choose belong into a [`Family`].
    pub fn with(&self, labels: &[(&str, &str)]) -> Result<M, HostError> {
        Metric::define(M::TYPE, &wire_name(&self.name, labels)?).map(M::of)
    }

    /// The metrics of this name by the values of one label, which are not known before. At most `limit` of them: further
    /// values count as `other`.
    pub fn by(&self, label: &'static str, limit: usize) -> Family<M> {
        Family { named: Self { name: self.name.clone(), kind: PhantomData }, label, limit, known: RefCell::default() }
    }
}

/// Metrics of one name by the value of a label, defined when first asked for.
#[derive(Clone, Debug)]
pub struct Family<M> {
    named: Named<M>,
    label: &'static str,
    limit: usize,
    known: RefCell<BTreeMap<String, M>>,
}

impl<M: Kind> Family<M> {
    /// The metric with this value of the label. A value that was asked for before costs a look into a table.
    pub fn of(&self, value: &str) -> Result<M, HostError> {
        let mut known = self.known.borrow_mut();
        if let Some(metric) = known.get(value) {
            return Ok(*metric);
        }
        let value = if known.len() < self.limit { value } else { OTHER };
        let metric = match known.get(value) {
            Some(metric) => *metric,
            None => self.named.with(&[(self.label, value)])?,
        };
        known.insert(value.to_owned(), metric);
        Ok(metric)
    }
}

/// Name and labels in one, see the module.
pub(crate) fn wire_name(name: &str, labels: &[(&str, &str)]) -> Result<String, HostError> {
    let mut labels = labels.to_vec();
    labels.sort_unstable();
    let mut wire = String::new();
    for (label, value) in labels {
        let starts = |first: u8| first.is_ascii_alphabetic() || first == b'_';
        let sound = label.bytes().next().is_some_and(starts)
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !sound {
            return Err(HostError { call: "label of a metric", status: Status::BadArgument });
        }
        wire.push_str(label);
        wire.push_str("=.=");
        wire.extend(value[..value.floor_char_boundary(MAX_VALUE)].chars().map(harmless));
        wire.push_str(";.;");
    }
    wire.push_str(name);
    Ok(wire)
}

fn harmless(c: char) -> char {
    if c == ';' || c.is_control() { '_' } else { c }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn labels_come_before_the_name_in_their_order() {
        let wire = wire_name("hits", &[("b", "2"), ("a", "x;.;y=.=\n")]);
        assert_eq!(wire.as_deref(), Ok("a=.=x_._y=.=_;.;b=.=2;.;hits"));
        assert_eq!(wire_name("hits", &[]).as_deref(), Ok("hits"));
        for label in ["", "9a", "a b", "ä", "a=.="] {
            assert!(wire_name("hits", &[(label, "1")]).is_err(), "{label}");
        }
    }

    proptest! {
        #[test]
        fn no_value_ends_early(value: String) {
            let wire = wire_name("hits", &[("a", &value)]).unwrap_or_default();
            let parts: Vec<_> = wire.split(";.;").collect();
            prop_assert_eq!(parts.len(), 2);
            prop_assert_eq!(parts[1], "hits");
            prop_assert!(wire.len() <= MAX_VALUE + 12);
        }
    }
}
