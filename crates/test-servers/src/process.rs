//! A server's process: never outlives this one, and can be treated badly.

use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, ExitStatus};
use std::sync::LazyLock;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longest wait for a server to listen, and to end when asked.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(20);

type Order = (Command, Sender<io::Result<Child>>);

/// Starts every server. The kernel kills a child when the *thread* that started it ends, and threads of
/// tests end early; this one lives as long as the process.
static KEEPER: LazyLock<Sender<Order>> = LazyLock::new(|| {
    let (sender, orders) = channel::<Order>();
    std::thread::spawn(move || {
        for (mut command, answer) in orders {
            // Nobody waits any more: the child is then dropped, and ends with us.
            let _ = answer.send(command.spawn());
        }
    });
    sender
});

/// A running server; dropping it kills it.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// Starts `program`, which is killed when this process ends, however that comes. The rest of the
    /// command (arguments, environment, streams) is the caller's.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(program: impl AsRef<std::ffi::OsStr>, rest: impl FnOnce(&mut Command)) -> Self {
        let program = program.as_ref();
        // The mark has to be set in the child, and survives the exec.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program);
        rest(&mut command);
        let (sender, answer) = channel();
        KEEPER
            .send((command, sender))
            .unwrap_or_else(|_| panic!("the thread that starts servers is gone"));
        let child = answer
            .recv()
            .unwrap_or_else(|_| panic!("the thread that starts servers is gone"))
            .unwrap_or_else(|error| panic!("{} cannot be started: {error}", program.display()));
        Self(child)
    }

    /// Waits until the server takes connections on a loopback port.
    ///
    /// # Panics
    /// When the process ends before, or does not listen in time; `log` is then worth reading.
    pub async fn listens(&mut self, port: u16, log: impl FnOnce() -> String) {
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let ended = self.0.try_wait().ok().flatten();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "the server does not listen on port {port} ({ended:?}):\n{}",
                log()
            );
            tokio::time::sleep(LOOK).await;
        }
    }

    /// SIGSTOP: it keeps its connections and answers nothing.
    pub fn freeze(&self) {
        self.send(Signal::STOP);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.send(Signal::CONT);
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn stop(&mut self) -> ExitStatus {
        self.send(Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(Some(status)) = self.0.try_wait() {
                return status;
            }
            assert!(Instant::now() < deadline, "the server does not end");
            tokio::time::sleep(LOOK).await;
        }
    }

    #[must_use]
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    fn send(&self, signal: Signal) {
        let id = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        // A process that has ended takes no signal.
        let _ = id.map(|id| kill_process(id, signal));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
