//! [`Trie`]: finds all prefixes of a path among many, in time that depends on the path only.

/// Values by byte string, shared beginnings stored once.
#[derive(Debug)]
pub(crate) struct Trie<T> {
    /// The first is the root, with an empty label.
    nodes: Vec<Node<T>>,
}

#[derive(Debug)]
struct Node<T> {
    label: Box<[u8]>,
    value: Option<T>,
    /// First byte of the child's label, ascending, and the child.
    children: Vec<(u8, u32)>,
}

impl<T: Default> Trie<T> {
    pub(crate) fn new() -> Self {
        Self { nodes: vec![Node::new(b"")] }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.len() == 1 && self.nodes[0].value.is_none()
    }

    /// Shows the value of each key that `path` begins with, short ones first.
    pub(crate) fn visit(&self, path: &[u8], mut visit: impl FnMut(&T)) {
        let (mut node, mut rest) = (&self.nodes[0], path);
        loop {
            if let Some(value) = &node.value {
                visit(value);
            }
            let Some(child) = rest.first().and_then(|byte| node.child(*byte)) else { return };
            node = &self.nodes[child as usize];
            let Some(after) = rest.strip_prefix(&*node.label) else { return };
            rest = after;
        }
    }

    /// The value of this key, made when new.
    pub(crate) fn entry(&mut self, key: &[u8]) -> &mut T {
        let (mut node, mut rest) = (0, key);
        while let Some(first) = rest.first() {
            let Some(child) = self.nodes[node].child(*first) else {
                node = self.add_child(node, rest);
                break;
            };
            let child = child as usize;
            let label = &self.nodes[child].label;
            let common = label.iter().zip(rest).take_while(|(a, b)| a == b).count();
            if common < label.len() {
                self.split(child, common);
            }
            (node, rest) = (child, &rest[common..]);
        }
        self.nodes[node].value.get_or_insert_default()
    }

    /// Gives back the room that growing has taken, also that of each value.
    pub(crate) fn shrink(&mut self, mut shrink: impl FnMut(&mut T)) {
        self.nodes.shrink_to_fit();
        for node in &mut self.nodes {
            node.children.shrink_to_fit();
            node.value.iter_mut().for_each(&mut shrink);
        }
    }

    fn add_child(&mut self, parent: usize, label: &[u8]) -> usize {
        let child = self.nodes.len();
        self.nodes.push(Node::new(label));
        let children = &mut self.nodes[parent].children;
        let place = children.partition_point(|(byte, _)| *byte < label[0]);
        children.insert(place, (label[0], child as u32));
        child
    }

    /// Cuts a node's label: it keeps the first `at` bytes, a new child of it gets the rest and all that it had.
    fn split(&mut self, node: usize, at: usize) {
        let lower = self.nodes.len() as u32;
        let upper = &mut self.nodes[node];
        let mut rest = Node::new(&upper.label[at..]);
        rest.value = upper.value.take();
        rest.children = std::mem::replace(&mut upper.children, vec![(rest.label[0], lower)]);
        upper.label = upper.label[..at].into();
        self.nodes.push(rest);
    }
}

impl<T> Node<T> {
    fn new(label: &[u8]) -> Self {
        Self { label: label.into(), value: None, children: Vec::new() }
    }

    fn child(&self, first: u8) -> Option<u32> {
        let place = self.children.binary_search_by_key(&first, |(byte, _)| *byte).ok()?;
        Some(self.children[place].1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_finds_what_a_scan_finds(keys in prop::collection::vec("[ab/]{0,6}", 0..40), path in "[ab/]{0,9}") {
            let mut trie = Trie::<Vec<usize>>::new();
            keys.iter().enumerate().for_each(|(index, key)| trie.entry(key.as_bytes()).push(index));
            let mut found: Vec<usize> = Vec::new();
            trie.visit(path.as_bytes(), |indexes| found.extend(indexes));
            found.sort_unstable();
            let scan: Vec<usize> = (0..keys.len()).filter(|index| path.starts_with(&keys[*index])).collect();
            prop_assert_eq!(found, scan);
            prop_assert_eq!(trie.is_empty(), keys.is_empty());
        }
    }
}
