//! Whether the machine has the memory that the broker is to use.
//!
//! *Owns*: the limit of the machine and of the control groups around this process.
//! *Does not own*: the budget.
//!
//! Invariants
//! 1. A budget that cannot be held is refused at start, not found out by the kernel's killer.
//!
//! *IO: driver*

use std::fs;
use std::path::Path;

use crate::exit::{Code, Exit};

/// Refuses a budget above what the machine, or the container, can hold.
pub(super) fn check(budget: u64) -> Result<(), Exit> {
    let Some(limit) = limit() else { return Ok(()) };
    if budget <= limit {
        return Ok(());
    }
    let (expected, found) = (
        format!(
            "at most {} MiB, what this machine or container has",
            limit >> 20
        ),
        format!("{} MiB", budget.div_ceil(1 << 20)),
    );
    Err(Exit::new(
        Code::Environment,
        "too little memory",
        "flag --memory",
        expected,
        found,
    ))
}

/// The least of what is known; `None` where nothing is.
fn limit() -> Option<u64> {
    let total = fs::read_to_string("/proc/meminfo").ok();
    let total = total.as_deref().and_then(total_of);
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = group_limit(Path::new("/sys/fs/cgroup"), &groups);
    total.into_iter().chain(group).min()
}

fn total_of(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1 << 10)
}

/// The least `memory.max` on the way from this process's group up to `root`.
fn group_limit(root: &Path, groups: &str) -> Option<u64> {
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mut at = root.join(group);
    let mut least = None;
    while at.starts_with(root) {
        let max = fs::read_to_string(at.join("memory.max")).ok();
        let max = max.and_then(|text| text.trim().parse::<u64>().ok());
        least = least.into_iter().chain(max).min();
        if !at.pop() {
            break;
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_of_the_groups_above_counts() {
        let root = tempfile::tempdir().unwrap();
        let leaf = root.path().join("a/b");
        fs::create_dir_all(&leaf).unwrap();
        fs::write(leaf.join("memory.max"), "max\n").unwrap();
        fs::write(root.path().join("a/memory.max"), "1000\n").unwrap();
        fs::write(root.path().join("memory.max"), "5000\n").unwrap();
        assert_eq!(group_limit(root.path(), "1:cpu:/x\n0::/a/b\n"), Some(1000));
        assert_eq!(group_limit(root.path(), "0::/other\n"), Some(5000));
        assert_eq!(group_limit(root.path(), "1:memory:/x\n"), None);
        let meminfo = "MemFree: 1 kB\nMemTotal:       16 kB\n";
        assert_eq!(total_of(meminfo), Some(16 << 10));
        assert_eq!(total_of("MemTotal: many"), None);
    }

    #[test]
    fn a_budget_beyond_the_machine_is_refused_and_names_what_there_is() {
        check(1).unwrap();
        if limit().is_some() {
            let refused = format!("{:?}", check(u64::MAX).unwrap_err());
            assert!(refused.contains("--memory"), "{refused}");
        }
    }
}
