//! Whether the machine has the memory that the broker is to use.
//!
//! *Owns*: the limit of the machine and of the control groups around this process.
//! *Does not own*: the budget.
//!
//! Invariants
//! 1. A budget that the machine, or a control group around this process, does not have is refused at start
//!    with what the process may come to, a fifth more than the budget. What other processes there use is
//!    not known here.
//!
//! *IO: driver*

use std::fs;
use std::path::Path;

use crate::exit::{Code, Exit};

/// Refuses a budget above what the machine, or the container, can hold.
pub(super) fn check(budget: u64) -> Result<(), Exit> {
    limit().map_or(Ok(()), |limit| check_against(limit, budget))
}

/// The greatest budget with which the process stays within `limit`.
fn budget_max(limit: u64) -> u64 {
    limit / 6 * 5
}

fn check_against(limit: u64, budget: u64) -> Result<(), Exit> {
    if budget <= budget_max(limit) {
        return Ok(());
    }
    let (expected, found) = (
        format!(
            "at most {} MiB, five sixths of the {} MiB that this machine or container has",
            budget_max(limit) >> 20,
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

/// The least limit on the way from this process's groups up to `root`, of both kinds of control groups.
fn group_limit(root: &Path, groups: &str) -> Option<u64> {
    let limits = groups.lines().filter_map(|line| {
        let (_, line) = line.split_once(':')?;
        let (controllers, group) = line.split_once(":/")?;
        let is_memory = controllers.split(',').any(|name| name == "memory");
        match controllers {
            "" => least_limit(root, group, "memory.max"),
            _ if is_memory => least_limit(&root.join("memory"), group, "memory.limit_in_bytes"),
            _ => None,
        }
    });
    limits.min()
}

/// A container may see its own group as `root` and not the one that is named.
fn least_limit(root: &Path, group: &str, file: &str) -> Option<u64> {
    let mut at = root.join(group);
    let mut least = None;
    while at.starts_with(root) {
        // No limit is "max", or a number that no machine has.
        let max = fs::read_to_string(at.join(file)).ok();
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
        // The older kind, seen from within a container.
        let older = root.path().join("memory");
        fs::create_dir(&older).unwrap();
        fs::write(older.join("memory.limit_in_bytes"), "700\n").unwrap();
        let groups = "3:cpu,cpuacct:/d/x\n2:memory:/d/x\n0::/a/b\n";
        assert_eq!(group_limit(root.path(), groups), Some(700));
        let meminfo = "MemFree: 1 kB\nMemTotal:       16 kB\n";
        assert_eq!(total_of(meminfo), Some(16 << 10));
        assert_eq!(total_of("MemTotal: many"), None);
    }

    #[test]
    fn a_budget_beyond_the_machine_is_refused_and_names_what_there_is() {
        check(1).unwrap();
        const GIB: u64 = 1 << 30;
        check_against(6 * GIB, 5 * GIB).unwrap();
        let refused = check_against(6 * GIB, 5 * GIB + 1).unwrap_err();
        assert_eq!(refused.code, Code::Environment);
        let text = format!("{refused:?}");
        assert!(
            text.contains("--memory") && text.contains("5120 MiB"),
            "{text}"
        );
    }
}
