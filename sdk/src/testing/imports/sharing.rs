//! Shared data, queues and metrics.

use std::collections::VecDeque;

use super::super::state::TestMetric;
use super::{Outcome, bytes, call, done, give};
use crate::{MetricType, Status};

pub(crate) unsafe fn proxy_get_shared_data(
    key: *const u8,
    key_length: usize,
    pointer: *mut *mut u8,
    length: *mut usize,
    version: *mut u32,
) -> i32 {
    // SAFETY: see the module above.
    let key = unsafe { bytes(key, key_length) };
    let found = call("proxy_get_shared_data", |state| state.shared.get(key).cloned().ok_or(Status::NotFound));
    // SAFETY: see the module above.
    let outcome = found.map(|(value, newest)| unsafe {
        *version = newest;
        value
    });
    // SAFETY: see the module above.
    unsafe { give(outcome, pointer, length) }
}

pub(crate) unsafe fn proxy_set_shared_data(
    key: *const u8,
    key_length: usize,
    value: *const u8,
    value_length: usize,
    version: u32,
) -> i32 {
    // SAFETY: see the module above.
    let (key, value) = unsafe { (bytes(key, key_length), bytes(value, value_length)) };
    done(call("proxy_set_shared_data", |state| {
        let newest = state.shared.get(key).map_or(0, |(_, newest)| *newest);
        if version != 0 && newest != 0 && version != newest {
            return Err(Status::CasMismatch);
        }
        state.shared.insert(key.to_vec(), (value.to_vec(), newest + 1));
        Ok(())
    }))
}

pub(crate) unsafe fn proxy_register_shared_queue(name: *const u8, name_length: usize, id: *mut u32) -> i32 {
    // SAFETY: see the module above.
    let name = String::from_utf8_lossy(unsafe { bytes(name, name_length) }).into_owned();
    let outcome = call("proxy_register_shared_queue", |state| {
        let known = state.queues.iter().position(|(known, _)| *known == name);
        let index = known.unwrap_or_else(|| {
            state.queues.push((name, VecDeque::new()));
            state.queues.len() - 1
        });
        Ok(index as u32 + 1)
    });
    // SAFETY: see the module above.
    done(outcome.map(|number| unsafe { *id = number }))
}

pub(crate) unsafe fn proxy_resolve_shared_queue(
    _vm: *const u8,
    _vm_length: usize,
    name: *const u8,
    name_length: usize,
    id: *mut u32,
) -> i32 {
    // SAFETY: see the module above.
    let name = unsafe { bytes(name, name_length) };
    let outcome = call("proxy_resolve_shared_queue", |state| {
        let known = state.queues.iter().position(|(known, _)| known.as_bytes() == name);
        known.map(|index| index as u32 + 1).ok_or(Status::NotFound)
    });
    // SAFETY: see the module above.
    done(outcome.map(|number| unsafe { *id = number }))
}

fn with_queue<T>(name: &'static str, id: u32, f: impl FnOnce(&mut VecDeque<Vec<u8>>) -> Outcome<T>) -> Outcome<T> {
    call(name, |state| {
        let index = (id as usize).checked_sub(1).ok_or(Status::NotFound)?;
        f(&mut state.queues.get_mut(index).ok_or(Status::NotFound)?.1)
    })
}

pub(crate) unsafe fn proxy_enqueue_shared_queue(id: u32, value: *const u8, value_length: usize) -> i32 {
    // SAFETY: see the module above.
    let value = unsafe { bytes(value, value_length) }.to_vec();
    done(with_queue("proxy_enqueue_shared_queue", id, |queue| {
        queue.push_back(value);
        Ok(())
    }))
}

pub(crate) unsafe fn proxy_dequeue_shared_queue(id: u32, pointer: *mut *mut u8, length: *mut usize) -> i32 {
    let outcome = with_queue("proxy_dequeue_shared_queue", id, |queue| queue.pop_front().ok_or(Status::Empty));
    // SAFETY: see the module above.
    unsafe { give(outcome, pointer, length) }
}

pub(crate) unsafe fn proxy_define_metric(kind: i32, name: *const u8, name_length: usize, id: *mut u32) -> i32 {
    // SAFETY: see the module above.
    let name = unsafe { bytes(name, name_length) };
    let outcome = call("proxy_define_metric", |state| {
        let known = state.metrics.iter().position(|known| known.kind == kind && known.name == name);
        let index = known.unwrap_or_else(|| {
            state.metrics.push(TestMetric { kind, name: name.to_vec(), value: 0, records: Vec::new() });
            state.metrics.len() - 1
        });
        Ok(index as u32)
    });
    // SAFETY: see the module above.
    done(outcome.map(|number| unsafe { *id = number }))
}

fn with_metric<T>(name: &'static str, id: u32, f: impl FnOnce(&mut TestMetric) -> Outcome<T>) -> Outcome<T> {
    call(name, |state| f(state.metrics.get_mut(id as usize).ok_or(Status::NotFound)?))
}

pub(crate) unsafe fn proxy_increment_metric(id: u32, offset: i64) -> i32 {
    done(with_metric("proxy_increment_metric", id, |metric| {
        let refused =
            metric.kind == MetricType::Histogram as i32 || (metric.kind == MetricType::Counter as i32 && offset <= 0);
        if refused {
            return Err(Status::BadArgument);
        }
        metric.value = metric.value.saturating_add_signed(offset);
        Ok(())
    }))
}

pub(crate) unsafe fn proxy_record_metric(id: u32, value: u64) -> i32 {
    done(with_metric("proxy_record_metric", id, |metric| {
        match metric.kind {
            kind if kind == MetricType::Counter as i32 => metric.value = metric.value.saturating_add(value),
            kind if kind == MetricType::Gauge as i32 => metric.value = value,
            _ => metric.records.push(value),
        }
        Ok(())
    }))
}

pub(crate) unsafe fn proxy_get_metric(id: u32, value: *mut u64) -> i32 {
    let outcome = with_metric("proxy_get_metric", id, |metric| {
        if metric.kind == MetricType::Histogram as i32 { Err(Status::BadArgument) } else { Ok(metric.value) }
    });
    // SAFETY: see the module above.
    done(outcome.map(|current| unsafe { *value = current }))
}
