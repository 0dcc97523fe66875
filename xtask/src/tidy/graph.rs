//! Cycles in a directed graph.
//!
//! *Owns*: strongly connected components, and a shortest cycle through each.
//! *Does not own*: what the nodes are.
//!
//! *IO: none*

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A directed graph over ordered names.
#[derive(Default)]
pub(crate) struct Graph<N: Ord + Clone> {
    edges: BTreeMap<N, BTreeSet<N>>,
}

impl<N: Ord + Clone> Graph<N> {
    pub(crate) fn new() -> Self {
        Self {
            edges: BTreeMap::new(),
        }
    }

    pub(crate) fn add(&mut self, from: N, to: N) {
        if from != to {
            self.edges.entry(from).or_default().insert(to);
        }
    }

    /// One shortest cycle for each knot of nodes that reach each other; first = last.
    pub(crate) fn cycles(&self) -> Vec<Vec<N>> {
        let mut done: BTreeSet<&N> = BTreeSet::new();
        let mut found = Vec::new();
        for node in self.edges.keys() {
            if done.contains(node) {
                continue;
            }
            let Some(cycle) = self.shortest(node) else {
                continue;
            };
            let reached = self.reached(node);
            done.extend(
                reached
                    .into_iter()
                    .filter(|other| self.reached(other).contains(node)),
            );
            found.push(cycle);
        }
        found
    }

    fn next<'a>(&'a self, node: &N) -> impl Iterator<Item = &'a N> {
        self.edges.get(node).into_iter().flatten()
    }

    fn reached<'a>(&'a self, from: &N) -> BTreeSet<&'a N> {
        let mut seen = BTreeSet::new();
        let mut queue: Vec<&N> = self.next(from).collect();
        while let Some(node) = queue.pop() {
            if seen.insert(node) {
                queue.extend(self.next(node));
            }
        }
        seen
    }

    /// The shortest way from `start` back to it.
    fn shortest(&self, start: &N) -> Option<Vec<N>> {
        let mut came_from: BTreeMap<&N, &N> = BTreeMap::new();
        let mut queue: VecDeque<&N> = VecDeque::new();
        let (start, _) = self.edges.get_key_value(start)?;
        queue.push_back(start);
        while let Some(node) = queue.pop_front() {
            for next in self.next(node) {
                if came_from.contains_key(next) {
                    continue;
                }
                came_from.insert(next, node);
                if next == start {
                    return Some(way_back(&came_from, start));
                }
                queue.push_back(next);
            }
        }
        None
    }
}

fn way_back<N: Ord + Clone>(came_from: &BTreeMap<&N, &N>, start: &N) -> Vec<N> {
    let mut way = vec![start.clone()];
    let mut node = came_from[start];
    while node != start {
        way.push(node.clone());
        node = came_from[node];
    }
    way.push(start.clone());
    way.reverse();
    way
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cycles(edges: &[(u8, u8)]) -> Vec<Vec<u8>> {
        let mut graph = Graph::new();
        for &(from, to) in edges {
            graph.add(from, to);
        }
        graph.cycles()
    }

    #[test]
    fn a_diamond_has_no_cycle() {
        assert!(cycles(&[(1, 2), (1, 3), (2, 4), (3, 4), (4, 4)]).is_empty());
    }

    #[test]
    fn the_shortest_cycle_of_each_knot_is_named_once() {
        assert_eq!(
            cycles(&[(1, 2), (2, 3), (3, 1), (2, 1), (3, 4), (5, 6), (6, 5)]),
            [vec![1, 2, 1], vec![5, 6, 5]]
        );
    }
}
