//! One consumer group: who owns what, and what it committed.
//!
//! *Owns*: the fence of generations, the register of each partition's committed offset.
//! *Does not own*: the members.
//!
//! Invariants
//! 1. Every commit is told by a number of its own, which comes back with the offset.
//! 2. A commit that was answered with an error was not carried out; one that was not answered may
//!    have been, at any time since, but not once a later generation has committed.
//! 3. In one generation a partition has one owner.
//!
//! *IO: none*

use std::collections::BTreeMap;

use super::Violation;

const CHECKER: &str = "group";

/// Names a commit.
pub(crate) type CommitId = u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    None,
    /// Acknowledged; the steps of the history before and after.
    Acked(u64),
    Refused,
}

#[derive(Clone, Copy, Debug)]
struct Commit {
    partition: i32,
    generation: i32,
    offset: i64,
    begun: u64,
    /// The latest generation anybody knew of when it began.
    known: i32,
    answer: Answer,
}

/// One group.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupModel {
    /// Counts what happened: what ends before another begins has the smaller number.
    step: u64,
    generation: i32,
    owners: BTreeMap<(i32, i32), String>,
    commits: BTreeMap<CommitId, Commit>,
}

impl GroupModel {
    fn step(&mut self) -> u64 {
        self.step += 1;
        self.step
    }

    /// Somebody was told that `generation` has begun.
    pub(crate) fn joined(&mut self, generation: i32) {
        self.generation = self.generation.max(generation);
    }

    /// `member` was told that it owns `partitions` in `generation`.
    ///
    /// # Errors
    /// Somebody else does.
    pub(crate) fn owns(
        &mut self,
        generation: i32,
        member: &str,
        partitions: &[i32],
    ) -> Result<(), Violation> {
        for partition in partitions {
            let owner = self
                .owners
                .entry((generation, *partition))
                .or_insert_with(|| member.to_owned());
            if owner != member {
                let detail = format!(
                    "partition {partition} has two owners in generation {generation}: \
                     {owner} and {member}"
                );
                return Err(Violation::new(CHECKER, detail));
            }
        }
        Ok(())
    }

    /// A commit begins.
    pub(crate) fn commit_begun(
        &mut self,
        id: CommitId,
        partition: i32,
        generation: i32,
        offset: i64,
    ) {
        let commit = Commit {
            partition,
            generation,
            offset,
            begun: self.step(),
            known: self.generation,
            answer: Answer::None,
        };
        self.commits.insert(id, commit);
    }

    /// A commit was refused.
    pub(crate) fn commit_refused(&mut self, id: CommitId) {
        if let Some(commit) = self.commits.get_mut(&id) {
            commit.answer = Answer::Refused;
        }
    }

    /// A commit was acknowledged.
    ///
    /// # Errors
    /// Its generation was over before it began.
    pub(crate) fn commit_acked(&mut self, id: CommitId) -> Result<(), Violation> {
        let step = self.step();
        let Some(commit) = self.commits.get_mut(&id) else {
            return Err(Violation::new(CHECKER, format!("commit {id} never began")));
        };
        commit.answer = Answer::Acked(step);
        if commit.generation < commit.known {
            let detail = format!(
                "stale: a commit of generation {} was accepted, it began after generation {} had",
                commit.generation, commit.known
            );
            return Err(Violation::new(CHECKER, detail));
        }
        Ok(())
    }

    /// A look at the committed offset begins; its number is for [`GroupModel::fetched`].
    pub(crate) fn fetch_begun(&mut self) -> u64 {
        self.step()
    }

    /// A look that began at `begun` found `offset`, of the commit `id`, or nothing.
    ///
    /// # Errors
    /// A register would not have shown it.
    pub(crate) fn fetched(
        &mut self,
        begun: u64,
        partition: i32,
        found: Option<(CommitId, i64)>,
    ) -> Result<(), Violation> {
        // What was certainly carried out before the look began.
        let done = self
            .commits
            .values()
            .filter_map(|commit| match commit.answer {
                Answer::Acked(at) if commit.partition == partition && at < begun => {
                    Some((at, commit))
                }
                _ => None,
            });
        let Some((id, offset)) = found else {
            return match done.max_by_key(|(at, _)| *at) {
                None => Ok(()),
                Some((_, lost)) => {
                    let detail = format!("partition {partition} has no offset, lost: {lost:?}");
                    Err(Violation::new(CHECKER, detail))
                }
            };
        };
        let seen = self.commits.get(&id).copied();
        let Some(seen) = seen.filter(|seen| seen.partition == partition && seen.offset == offset)
        else {
            let detail = format!("partition {partition} shows {offset} of commit {id}: {seen:?}");
            return Err(Violation::new(CHECKER, detail));
        };
        let ended = match seen.answer {
            Answer::Refused => {
                let detail = format!("partition {partition} shows a refused commit: {seen:?}");
                return Err(Violation::new(CHECKER, detail));
            }
            Answer::Acked(at) => Some(at),
            Answer::None => None,
        };
        // It must not have been overwritten: by what began after it had ended, or by a later
        // generation, which fences it.
        let over = |later: &Commit| {
            ended.is_some_and(|ended| later.begun > ended) || later.generation > seen.generation
        };
        match done
            .filter(|(_, later)| over(later))
            .max_by_key(|(at, _)| *at)
        {
            None => Ok(()),
            Some((_, later)) => {
                let detail =
                    format!("partition {partition} shows {seen:?}, overwritten by {later:?}");
                Err(Violation::new(CHECKER, detail))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::GroupModel;
    use crate::check::anomaly::anomaly;

    fn complaint(result: Result<(), crate::check::Violation>) -> String {
        result.unwrap_err().detail
    }

    /// Commit 1 of offset 5 in generation 1 is acknowledged, on partition 0.
    fn model() -> GroupModel {
        let mut model = GroupModel::default();
        model.joined(1);
        model.commit_begun(1, 0, 1, 5);
        model.commit_acked(1).unwrap();
        model
    }

    #[test]
    fn good_histories_pass() {
        let mut model = model();
        model.owns(1, "a", &[0]).unwrap();
        let look = model.fetch_begun();
        model.fetched(look, 0, Some((1, 5))).unwrap();
        model.fetched(look, 1, None).unwrap();
        // Unanswered: either may show.
        model.commit_begun(2, 0, 1, 9);
        let look = model.fetch_begun();
        model.fetched(look, 0, Some((1, 5))).unwrap();
        model.fetched(look, 0, Some((2, 9))).unwrap();
        // A look under way when a commit ends may show the older.
        let look = model.fetch_begun();
        model.commit_begun(3, 0, 1, 11);
        model.commit_acked(3).unwrap();
        model.fetched(look, 0, Some((1, 5))).unwrap();
        // Answered in the middle of a rebalance: it began before.
        model.commit_begun(4, 0, 1, 12);
        model.joined(2);
        model.owns(2, "b", &[0]).unwrap();
        model.commit_acked(4).unwrap();
    }

    #[test]
    fn a_stale_generation_is_seen() {
        let mut model = model();
        model.joined(2);
        model.commit_begun(2, 0, 1, 9);
        assert!(complaint(model.commit_acked(2)).contains("stale"));
    }

    #[test]
    fn a_late_commit_of_an_older_generation_is_seen() {
        let mut model = model();
        model.commit_begun(2, 0, 1, 9);
        model.joined(2);
        model.commit_begun(3, 0, 2, 10);
        model.commit_acked(3).unwrap();
        let look = model.fetch_begun();
        assert!(complaint(model.fetched(look, 0, Some((2, 9)))).contains("overwritten"));
    }

    #[test]
    fn a_lost_commit_is_seen() {
        let mut model = model();
        let look = model.fetch_begun();
        assert!(complaint(model.fetched(look, 0, None)).contains("lost"));
        model.commit_begun(2, 0, 1, 9);
        model.commit_acked(2).unwrap();
        let look = model.fetch_begun();
        assert!(complaint(model.fetched(look, 0, Some((1, 5)))).contains("overwritten"));
    }

    #[test]
    fn refused_unknown_and_altered_commits_are_seen() {
        let mut model = model();
        model.commit_begun(2, 0, 1, 9);
        model.commit_refused(2);
        let look = model.fetch_begun();
        assert!(complaint(model.fetched(look, 0, Some((2, 9)))).contains("refused"));
        assert!(complaint(model.fetched(look, 0, Some((7, 9)))).contains("shows"));
        assert!(complaint(model.fetched(look, 0, Some((1, 6)))).contains("shows"));
        assert!(complaint(model.fetched(look, 1, Some((1, 5)))).contains("shows"));
        assert!(complaint(model.commit_acked(8)).contains("never began"));
    }

    #[test]
    fn stale_generations_are_seen_whoever_is_ahead() {
        let mut model = model();
        model.joined(7);
        for (id, generation) in [(2, 1), (3, 6), (4, -1)] {
            model.commit_begun(id, 0, generation, 9);
            assert!(complaint(model.commit_acked(id)).contains("stale"));
        }
        model.commit_begun(5, 0, 7, 9);
        model.commit_acked(5).unwrap();
    }

    #[test]
    fn bad_histories_have_the_names_that_others_give_them() {
        let name = |result: Result<(), _>| anomaly(&result.unwrap_err());
        let mut model = model();
        let look = model.fetch_begun();
        assert_eq!(name(model.fetched(look, 0, None)), Some("lost-write"));
        assert_eq!(name(model.fetched(look, 0, Some((7, 9)))), Some("G1a"));
        model.commit_begun(2, 0, 1, 9);
        model.commit_refused(2);
        assert_eq!(name(model.fetched(look, 0, Some((2, 9)))), Some("G1a"));
        model.commit_begun(3, 0, 1, 10);
        model.commit_acked(3).unwrap();
        let look = model.fetch_begun();
        let back = model.fetched(look, 0, Some((1, 5)));
        assert_eq!(name(back), Some("nonmonotonic-poll"));
        // What the other workload has no groups for.
        model.owns(1, "a", &[0]).unwrap();
        assert_eq!(name(model.owns(1, "b", &[0])), None);
        model.joined(2);
        model.commit_begun(4, 0, 1, 11);
        assert_eq!(name(model.commit_acked(4)), None);
    }

    #[test]
    fn two_owners_are_seen() {
        let mut model = model();
        model.owns(1, "a", &[0, 1]).unwrap();
        model.owns(1, "a", &[0, 1]).unwrap();
        model.owns(2, "b", &[1]).unwrap();
        assert!(complaint(model.owns(1, "b", &[1])).contains("two owners"));
        assert!(complaint(model.owns(2, "a", &[0, 1])).contains("two owners"));
        assert!(complaint(model.owns(2, "c", &[0])).contains("two owners"));
    }
}
