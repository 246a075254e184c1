//! Where log lines go, and how many.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use config::{Log, LogFile, LogFormat};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::writer::{MakeWriterExt, OptionalWriter};

/// Sets up logging to standard error, and into a file where the configuration names one. `RUST_LOG` wins;
/// `--detailed_debug` raises our own crates to debug.
pub fn start(log: &Log, detailed: bool, data_dir: &Path) {
    let level = if detailed {
        "debug"
    } else {
        log.level.as_str()
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        EnvFilter::new(format!("{level},hyper=warn,reqwest=warn,h2=warn,ort=warn"))
    });
    let (file, fault) = match log.file.as_ref().map(|file| open(file, data_dir)) {
        None => (None, None),
        Some(Ok(file)) => (Some(file), None),
        Some(Err(fault)) => (None, Some(fault)),
    };
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr.and(IntoFile(file)));
    match log.format {
        LogFormat::Json => lines.json().init(),
        LogFormat::Text => lines.with_ansi(false).init(),
    }
    // A log that cannot be kept is no reason to answer nobody.
    if let Some(fault) = fault {
        tracing::error!("{fault:#}; log lines go to standard error only");
    }
}

fn open(file: &LogFile, data_dir: &Path) -> Result<File> {
    let path = match file {
        LogFile::InDataDir => data_dir.join("tollgate.log"),
        LogFile::At(path) => path.into(),
    };
    let opened = OpenOptions::new().create(true).append(true).open(&path);
    opened.with_context(|| format!("cannot write the log file {}", path.display()))
}

/// A file that lines are appended to, each in one write.
struct IntoFile(Option<File>);

impl<'a> MakeWriter<'a> for IntoFile {
    type Writer = OptionalWriter<&'a File>;

    fn make_writer(&'a self) -> Self::Writer {
        match &self.0 {
            Some(file) => OptionalWriter::some(file),
            None => OptionalWriter::none(),
        }
    }
}
