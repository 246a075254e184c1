//! Who is measured: the processes of one run, started on their cores.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::bodies::{self, Model};
use crate::cores::{Cores, Running};
use crate::load::Target;
use crate::mock::Provider;
use crate::tollgate::{self, Setup, Sync};
use crate::{forwarder, nginx};

/// One way from the client to the provider.
pub struct Contender {
    pub name: String,
    pub plain: SocketAddr,
    /// Where streams are asked for.
    pub streams: SocketAddr,
    pub key: String,
    pub running: Running,
}

impl Contender {
    pub fn target(&self, model: Model) -> Target {
        let address = if model == Model::Plain {
            self.plain
        } else {
            self.streams
        };
        Target {
            address,
            request: bodies::request(address, &self.key, model),
        }
    }

    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Waits until it accepts connections.
    pub fn listens(&self) -> Result<()> {
        let started = Instant::now();
        while TcpStream::connect(self.plain).is_err() {
            if started.elapsed() > Duration::from_secs(10) {
                bail!("{} does not listen on {}", self.name, self.plain);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

/// Everything that runs during one section.
pub struct Lineup {
    /// The first is nginx, to which ratios are taken.
    pub contenders: Vec<Contender>,
    /// Who is not measured, and why.
    pub absent: Vec<(String, String)>,
    /// The provider without a gateway.
    pub direct: Target,
    pub provider: Provider,
    _folder: tempfile::TempDir,
}

impl Lineup {
    /// nginx, the forwarder, and Tollgate once per sync mode.
    pub fn start(cores: Cores, syncs: &[Sync]) -> Result<Self> {
        let setups: Vec<_> = syncs.iter().copied().map(Setup::new).collect();
        let mut lineup = Self::of(cores, &setups)?;
        let forwarder = forwarder::start(cores, lineup.provider.address)?;
        lineup.contenders.insert(1, forwarder);
        Ok(lineup)
    }

    /// nginx, and Tollgate once per setup. To be called on the thread that will make the load: the
    /// processes end with it.
    pub fn of(cores: Cores, setups: &[Setup]) -> Result<Self> {
        let provider = Provider::start()?;
        let address = provider.address;
        let folder = folder()?;
        let mut contenders = vec![nginx::start(cores, folder.path(), address)?];
        let mut absent = Vec::new();
        for setup in setups {
            match tollgate::start(cores, folder.path(), address, *setup) {
                Ok(contender) => contenders.push(contender),
                Err(error) => absent.push((setup.name(), format!("{error:#}"))),
            }
        }
        let request = bodies::request(address, "sk-direct", Model::Plain);
        let direct = Target { address, request };
        Ok(Self {
            contenders,
            absent,
            direct,
            provider,
            _folder: folder,
        })
    }
}

/// Beside the executables, so on a disk that syncs in earnest: `/tmp` may be memory.
pub fn folder() -> Result<tempfile::TempDir> {
    let executable = std::env::current_exe()?;
    let beside = executable.parent().unwrap_or(Path::new("."));
    Ok(tempfile::Builder::new()
        .prefix("bench-")
        .tempdir_in(beside)?)
}
