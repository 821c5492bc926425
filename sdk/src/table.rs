//! [`Table`]: streams by context id.

use std::collections::BTreeMap;

/// Ids below this sit in a list. Portolan hands out small ids again and again; other hosts count up, and their later
/// ids go to a map.
const DENSE: u32 = 4096;

/// Values by id.
pub(crate) struct Table<T> {
    dense: Vec<Option<Box<T>>>,
    sparse: BTreeMap<u32, Box<T>>,
}

impl<T> Table<T> {
    pub(crate) const fn new() -> Self {
        Self { dense: Vec::new(), sparse: BTreeMap::new() }
    }

    pub(crate) fn take(&mut self, id: u32) -> Option<Box<T>> {
        if id < DENSE { self.dense.get_mut(id as usize)?.take() } else { self.sparse.remove(&id) }
    }

    pub(crate) fn put(&mut self, id: u32, value: impl Into<Box<T>>) {
        if id >= DENSE {
            self.sparse.insert(id, value.into());
            return;
        }
        let index = id as usize;
        if index >= self.dense.len() {
            self.dense.resize_with(index + 1, || None);
        }
        self.dense[index] = Some(value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_there_until_taken_whatever_its_id() {
        let mut table = Table::new();
        for id in [1, 7, DENSE - 1, DENSE, u32::MAX] {
            table.put(id, id);
        }
        for id in [1, 7, DENSE - 1, DENSE, u32::MAX] {
            assert_eq!(table.take(id), Some(Box::new(id)));
            assert_eq!(table.take(id), None);
        }
        assert_eq!(table.take(2), None);
    }
}
