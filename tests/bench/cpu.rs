//! What the operating system says that a process tree used: CPU time and resident memory. On shared
//! machines CPU per request is the only steady figure.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

/// Clock ticks of `/proc/*/stat`: fixed in Linux's interface to user space (`USER_HZ`).
const TICK_US: f64 = 1e6 / 100.0;

/// CPU time since the start of a process and of everything below it, µs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spent {
    pub gateway: f64,
    /// The engine of the usage tables, a child of the role `up`: told apart.
    pub clickhouse: f64,
}

impl Spent {
    pub fn since(self, earlier: Self) -> Self {
        Self {
            gateway: self.gateway - earlier.gateway,
            clickhouse: self.clickhouse - earlier.clickhouse,
        }
    }
}

/// Resident memory of a process tree without the engine of the usage tables, MB (10⁶ bytes).
#[derive(Debug, Clone, Copy, Default)]
pub struct Resident {
    pub total: f64,
    /// The part that no file backs: heap and stacks.
    pub anonymous: f64,
}

pub fn spent(root: u32) -> Spent {
    let mut spent = Spent::default();
    for process in tree(root) {
        match process.is_clickhouse {
            true => spent.clickhouse += process.cpu,
            false => spent.gateway += process.cpu,
        }
    }
    spent
}

pub fn resident(root: u32) -> Resident {
    let mut resident = Resident::default();
    for process in tree(root)
        .into_iter()
        .filter(|process| !process.is_clickhouse)
    {
        let status =
            fs::read_to_string(format!("/proc/{}/status", process.pid)).unwrap_or_default();
        let megabytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kibibytes: f64 = line
                .and_then(|text| text.trim().trim_end_matches(" kB").parse().ok())
                .unwrap_or_default();
            kibibytes * 1024.0 / 1e6
        };
        resident.total += megabytes("VmRSS:");
        resident.anonymous += megabytes("RssAnon:");
    }
    resident
}

/// Waits until what a load left behind is worked off, at most two seconds.
pub fn until_idle(root: u32) {
    let started = Instant::now();
    let mut before = spent(root);
    while started.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(60));
        let now = spent(root);
        if now.since(before).gateway < TICK_US {
            return;
        }
        before = now;
    }
}

/// Share of the time since `earlier` in which a core was busy, 0 to 1.
#[derive(Debug, Clone, Copy)]
pub struct Busy {
    busy: u64,
    all: u64,
}

impl Busy {
    pub fn of(core: usize) -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let name = format!("cpu{core} ");
        let line = stat
            .lines()
            .find_map(|line| line.strip_prefix(name.as_str()))
            .unwrap_or_default();
        let times: Vec<u64> = line
            .split_whitespace()
            .filter_map(|n| n.parse().ok())
            .collect();
        let all: u64 = times.iter().take(8).sum();
        // Idle and waiting for a disk.
        let idle: u64 = times.iter().skip(3).take(2).sum();
        Self {
            busy: all - idle,
            all,
        }
    }

    pub fn since(self, earlier: Self) -> f64 {
        (self.busy - earlier.busy) as f64 / (self.all - earlier.all).max(1) as f64
    }
}

/// Share of the serving core taken by others, from which the reader is warned.
const DISTURBED: f64 = 0.1;

/// The warning, if others took that much. Ratios of streams suffer too: what is put aside for a while
/// finds more chunks at once.
pub fn disturbed(others: f64) -> Option<String> {
    (others > DISTURBED).then(|| {
        let percent = others * 100.0;
        format!("other programs took up to {percent:.0} % of the core that serves: repeat it on a quiet machine")
    })
}

struct Process {
    pid: u32,
    parent: u32,
    /// Own, and that of its children which ended and were waited for, µs.
    cpu: f64,
    is_clickhouse: bool,
}

/// A process and all below it.
fn tree(root: u32) -> Vec<Process> {
    let mut all: HashMap<u32, Process> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| process(entry.ok()?.file_name().to_str()?.parse().ok()?))
        .map(|process| (process.pid, process))
        .collect();
    let mut found: Vec<Process> = all.remove(&root).into_iter().collect();
    let mut at = 0;
    while at < found.len() {
        let parent = &found[at];
        let (pid, is_clickhouse) = (parent.pid, parent.is_clickhouse);
        let children: Vec<u32> = all
            .values()
            .filter(|process| process.parent == pid)
            .map(|process| process.pid)
            .collect();
        for child in children.iter().filter_map(|pid| all.remove(pid)) {
            found.push(Process {
                is_clickhouse: is_clickhouse || child.is_clickhouse,
                ..child
            });
        }
        at += 1;
    }
    found
}

fn process(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces; it ends at the last parenthesis. Numbering as in proc(5) from there.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).copied();
    let ticks: u64 = (14..=17)
        .filter_map(|number| field(number)?.parse::<u64>().ok())
        .sum();
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let is_clickhouse = command.split(|byte| *byte == 0).nth(1) == Some(b"clickhouse");
    Some(Process {
        pid,
        parent: field(4)?.parse().ok()?,
        cpu: ticks as f64 * TICK_US,
        is_clickhouse,
    })
}

/// CPU time of the calling thread.
pub fn own_thread() -> Duration {
    clock(rustix::time::ClockId::ThreadCPUTime)
}

/// CPU time of this process.
pub fn own_process() -> Duration {
    clock(rustix::time::ClockId::ProcessCPUTime)
}

fn clock(id: rustix::time::ClockId) -> Duration {
    Duration::try_from(rustix::time::clock_gettime(id)).unwrap_or_default()
}
