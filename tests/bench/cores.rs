//! Which core serves and which makes the load, and starting programs on one of them.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use rustix::thread::CpuSet;

/// The two cores of a run.
#[derive(Debug, Clone, Copy)]
pub struct Cores {
    /// Every contender runs here, alone.
    pub gateway: usize,
    /// The load and the mock provider.
    pub load: usize,
}

impl Cores {
    /// The first two cores that this process may use.
    pub fn pick() -> Result<Self> {
        let allowed = rustix::thread::sched_getaffinity(None)?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        match (cores.next(), cores.next()) {
            (Some(gateway), Some(load)) => Ok(Self { gateway, load }),
            _ => bail!("needs two cores: one to serve, one to make the load"),
        }
    }

    /// Runs `work` on the load core, in a thread of its own, so that the rest of the process stays free.
    pub fn at_load<T: Send>(self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                pin(self.load)?;
                // Timers fire 50 µs late by default, which would count as latency.
                rustix::thread::set_current_timer_slack(std::num::NonZero::new(1))?;
                work()
            });
            match thread.join() {
                Ok(outcome) => outcome,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    rustix::thread::sched_setaffinity(None, &set).with_context(|| format!("pin to core {core}"))
}

/// A command that runs on one core and ends when the thread that started it does.
pub fn on(core: usize, program: &str) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["__on", &core.to_string(), program])
        .stdin(Stdio::null());
    Ok(command)
}

/// One of this program's own helpers, which tells its port in its first line.
pub fn helper(core: usize, words: &[&str]) -> Result<(Running, u16)> {
    let me = std::env::current_exe()?;
    let mut child = on(core, &me.to_string_lossy())?
        .args(words)
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {words:?}"))?;
    let stdout = child.stdout.take().context("no output of a helper")?;
    let running = Running(child);
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    let port = line
        .trim()
        .parse()
        .with_context(|| format!("{words:?} did not start"))?;
    Ok((running, port))
}

/// `__on`: what the child does before it becomes the program.
pub fn become_pinned(core: usize, command: &[String]) -> Result<()> {
    pin(core)?;
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
    let (program, words) = command.split_first().context("no program")?;
    let error = Command::new(program).args(words).exec();
    Err(error).with_context(|| format!("run {program}"))
}

/// A child that is stopped when dropped, in an orderly way if it is quick about it.
pub struct Running(pub Child);

impl Running {
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.0.id().cast_signed()) {
            let _ = rustix::process::kill_process(pid, Signal::TERM);
        }
        for _ in 0..500 {
            if let Ok(Some(_)) = self.0.try_wait() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
