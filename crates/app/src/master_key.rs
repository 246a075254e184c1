//! The master key: from the file, the environment, or made on the first start. Only its hash is
//! passed on.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use config::Secret;
use schemas::KeyHash;

/// Where the key came from, and its hash.
pub struct MasterKey {
    pub hash: KeyHash,
    /// The text, when it was made just now: the one time it is shown.
    pub fresh: Option<Secret>,
}

/// The configured key, else the one in `<data>/master.key`, made if it is not there.
pub fn load(configured: Option<&Secret>, data_dir: &Path) -> Result<MasterKey> {
    if let Some(key) = configured {
        ensure!(
            key.expose().starts_with("sk-"),
            "general_settings.master_key: must begin with sk-"
        );
        return Ok(MasterKey {
            hash: KeyHash::of(key.expose()),
            fresh: None,
        });
    }
    let path = data_dir.join("master.key");
    let (text, fresh) = secret_file(&path, || format!("sk-{}", random_text()))?;
    ensure!(
        text.expose().starts_with("sk-"),
        "{}: must begin with sk-",
        path.display()
    );
    Ok(MasterKey {
        hash: KeyHash::of(text.expose()),
        fresh: fresh.then_some(text),
    })
}

/// The secret in a file, made (mode 0600) on first use. The flag tells whether it was made now.
pub fn secret_file(path: &Path, make: impl FnOnce() -> String) -> Result<(Secret, bool)> {
    let reading = || format!("cannot read {}", path.display());
    match fs::read_to_string(path) {
        Ok(text) => {
            let text = text.trim();
            ensure!(
                !text.is_empty(),
                "{} is empty: delete it, and a new one is made",
                path.display()
            );
            Ok((Secret::new(text), false))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let secret = make();
            let writing = || format!("cannot write {}", path.display());
            // Written apart and renamed: a crash leaves no half of a key.
            let part = path.with_extension("part");
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&part)
                .with_context(writing)?;
            writeln!(file, "{secret}", secret = secret)
                .and_then(|()| file.sync_all())
                .with_context(writing)?;
            fs::rename(&part, path).with_context(writing)?;
            Ok((Secret::new(secret), true))
        }
        Err(error) => Err(error).with_context(reading),
    }
}

/// 24 random bytes as URL-safe text.
pub fn random_text() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 24]>())
}
