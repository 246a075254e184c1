//! The yardstick: nginx `proxy_pass` with one worker and keep-alive on both sides.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::contender::Contender;
use crate::cores::{self, Cores, Running};

pub const NAME: &str = "nginx proxy_pass";

pub fn start(cores: Cores, folder: &Path, provider: SocketAddr) -> Result<Contender> {
    let folder = folder.join("nginx");
    std::fs::create_dir_all(&folder)?;
    let [plain, streams] = [free_address()?, free_address()?];
    let file = folder.join("nginx.conf");
    std::fs::write(&file, conf(&folder, plain, streams, provider))?;
    let child = cores::on(cores.gateway, &executable()?.to_string_lossy())?
        .arg("-p")
        .arg(&folder)
        .arg("-e")
        .arg(folder.join("error.log"))
        .arg("-c")
        .arg(&file)
        .spawn()
        .context("start nginx")?;
    let contender = Contender {
        name: NAME.to_owned(),
        plain,
        streams,
        key: "sk-not-looked-at".to_owned(),
        running: Running(child),
    };
    contender.listens()?;
    Ok(contender)
}

fn executable() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join("nginx"))
        .find(|file| file.is_file())
        .context("nginx is not installed")
}

/// A port that was free a moment ago: nginx cannot tell which one it took.
pub fn free_address() -> Result<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Two doors, as an operator would set them up: streams go through unbuffered, answers as nginx's
/// default has it.
fn conf(folder: &Path, plain: SocketAddr, streams: SocketAddr, provider: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        "daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/client;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000000;
  keepalive_timeout 600s;
  tcp_nodelay on;
  client_max_body_size 32m;
  upstream provider {{
    server {provider};
    keepalive 512;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
  }}
  proxy_http_version 1.1;
  proxy_set_header Connection \"\";
  server {{
    listen {plain};
    location / {{ proxy_pass http://provider; }}
  }}
  server {{
    listen {streams};
    location / {{ proxy_pass http://provider; proxy_buffering off; }}
  }}
}}
"
    )
}
