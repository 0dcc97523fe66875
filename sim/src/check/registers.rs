//! What must hold of lists that many writers append to by compare-and-set.
//!
//! *Owns*: who appended what, when each was told, and the lists as far as they were seen.
//! *Does not own*: the keys or streams that hold the lists.
//!
//! Every transaction has an id of its own; it appends the id to one list or to several. So a
//! list is the whole history of its register, and linearizability can be read off it: an id
//! stands in it once or not at all, acknowledged ones once, refused ones never; whoever was
//! acknowledged before another began stands before it; and no list ever loses its head.
//!
//! *IO: none*

use std::collections::{BTreeMap, BTreeSet};

use super::Violation;

/// A moment in the order of all calls and answers.
type Moment = u64;

#[derive(Clone, Debug, Default)]
struct Append {
    lists: BTreeSet<String>,
    begun: Moment,
    acked: Option<Moment>,
    refused: bool,
}

/// What was appended to which lists.
#[derive(Clone, Debug, Default)]
pub(crate) struct RegisterModel {
    moment: Moment,
    appends: BTreeMap<u64, Append>,
    seen: BTreeMap<String, Vec<u64>>,
}

fn wrong<T>(checker: &'static str, detail: String) -> Result<T, Violation> {
    Err(Violation::new(checker, detail))
}

impl RegisterModel {
    /// A moment before everything that follows.
    pub(crate) fn now(&mut self) -> Moment {
        self.moment += 1;
        self.moment
    }

    /// A transaction that appends `id` to these lists is about to be handed in.
    pub(crate) fn begins(&mut self, id: u64, lists: impl IntoIterator<Item = String>) {
        let begun = self.now();
        let append = Append {
            lists: lists.into_iter().collect(),
            begun,
            ..Append::default()
        };
        for list in &append.lists {
            self.seen.entry(list.clone()).or_default();
        }
        self.appends.insert(id, append);
    }

    /// It was acknowledged.
    pub(crate) fn acked(&mut self, id: u64) {
        let moment = self.now();
        self.appends.get_mut(&id).expect("it began").acked = Some(moment);
    }

    /// It was refused: nothing of it took effect, now or later.
    pub(crate) fn refused(&mut self, id: u64) {
        self.appends.get_mut(&id).expect("it began").refused = true;
    }

    /// A list was read by a call that began at `begun` after a look at the store (`None`
    /// if it may be old).
    pub(crate) fn read(
        &mut self,
        list: &str,
        ids: &[u64],
        begun: Option<Moment>,
    ) -> Result<(), Violation> {
        let seen = self.seen.entry(list.to_owned()).or_default();
        let common = seen.len().min(ids.len());
        if seen[..common] != ids[..common] {
            let detail = format!("{list} was {seen:?} and is read as {ids:?}");
            return wrong("diverged", detail);
        }
        if ids.len() > seen.len() {
            *seen = ids.to_vec();
        }
        let Some(begun) = begun else { return Ok(()) };
        let missing = self.appends.iter().find(|(id, append)| {
            let known = append.acked.is_some_and(|acked| acked < begun);
            known && append.lists.contains(list) && !ids.contains(id)
        });
        match missing {
            Some((id, _)) => {
                let detail = format!("{id} was acknowledged before {list} was read as {ids:?}");
                wrong("stale", detail)
            }
            None => Ok(()),
        }
    }

    /// All lists were read at once, as [`RegisterModel::read`] says; one that is not among them is
    /// empty.
    ///
    /// # Errors
    /// Those of [`RegisterModel::read`].
    pub(crate) fn read_all(
        &mut self,
        lists: &BTreeMap<String, Vec<u64>>,
        begun: Option<Moment>,
    ) -> Result<(), Violation> {
        let known = self.seen.keys().filter(|list| !lists.contains_key(*list));
        let absent: Vec<String> = known.cloned().collect();
        for list in absent {
            self.read(&list, &[], begun)?;
        }
        let mut lists = lists.iter();
        lists.try_for_each(|(list, ids)| self.read(list, ids, begun))
    }

    /// Everything is over, and these are all the lists.
    pub(crate) fn check_final(&self, lists: &BTreeMap<String, Vec<u64>>) -> Result<(), Violation> {
        let empty = Vec::new();
        for (id, append) in &self.appends {
            let count = |list: &String| {
                let ids = lists.get(list).unwrap_or(&empty);
                ids.iter().filter(|other| *other == id).count()
            };
            let counts: Vec<usize> = append.lists.iter().map(count).collect();
            let (least, most) = (counts.iter().min(), counts.iter().max());
            let detail = format!("{id} {append:?} stands in its lists {counts:?} times");
            if most > Some(&1) {
                return wrong("twice", detail);
            }
            if least != most {
                return wrong("atomic", detail);
            }
            if append.acked.is_some() && least == Some(&0) {
                return wrong("lost", detail);
            }
            if append.refused && most == Some(&1) {
                return wrong("refused", detail);
            }
        }
        for (list, ids) in lists {
            self.check_order(list, ids)?;
        }
        Ok(())
    }

    fn check_order(&self, list: &str, ids: &[u64]) -> Result<(), Violation> {
        let mut begun_last = 0;
        for id in ids {
            let Some(append) = self.appends.get(id) else {
                return wrong("register", format!("nobody appended {id} to {list}"));
            };
            if append.acked.is_some_and(|acked| acked < begun_last) {
                let detail = format!("{id} stands behind one that began after it, in {list}");
                return wrong("order", detail);
            }
            begun_last = begun_last.max(append.begun);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
