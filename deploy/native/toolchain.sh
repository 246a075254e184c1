# What must be on the machine before anything can be built. Debian packages are installed when that
# is possible without asking for a password, and named when it is not. Rust is only asked for: how
# it is installed is its owner's choice.

require_supported_machine() {
  [[ $(uname -s) == Linux && $(uname -m) == x86_64 ]] ||
    die "x86_64 Linux only: the embedded engine is pinned for it, and this is $(uname -s) $(uname -m)"
}

require_build_tools() {
  local missing=()
  have cc || missing+=(gcc libc6-dev)
  have c++ || missing+=(g++)
  have make || missing+=(make)
  have pkg-config || missing+=(pkg-config)
  # The broker's client speaks TLS through the system's library.
  have pkg-config && pkg-config --exists openssl || missing+=(libssl-dev)
  have pkg-config && pkg-config --exists zlib || missing+=(zlib1g-dev)
  install_packages "to build" "${missing[@]}"
  require_rust
}

require_fetch_tools() {
  local missing=()
  have flock || missing+=(util-linux)
  have node || missing+=(nodejs)
  have npm || missing+=(npm)
  have python3 || missing+=(python3)
  # Debian ships `venv` without the `ensurepip` that it needs; that is in a package of its own.
  python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
  install_packages "to fetch the native parts" "${missing[@]}"
}

require_rust() {
  have cargo || die "cargo is missing: install Rust $RUST_MINIMUM or newer (https://rustup.rs) and run this again"
  local version
  version=$(cargo --version | cut -d' ' -f2)
  [[ $(printf '%s\n' "$RUST_MINIMUM" "$version" | sort -V | head -n1) == "$RUST_MINIMUM" ]] ||
    die "cargo $version is too old: Rust $RUST_MINIMUM or newer is needed (rustup update stable)"
}

have() { command -v "$1" >/dev/null 2>&1; }

# install_packages WHY PACKAGE…
install_packages() {
  local why=$1
  shift
  (($# > 0)) || return 0
  have apt-get || die "$why, these are missing: $* (Debian's names). Install them and run this again"
  can_be_root || die "$why, these Debian packages are missing; run: sudo apt-get install $*"
  with_progress "installing Debian packages $why: $*" - 0 \
    "${as_root[@]}" sh -c 'apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"' sh "$@" ||
    die "the Debian packages could not be installed: $*. Is this machine online?"
}

# Whether packages can be installed without a password; `as_root` is what to put before the command.
can_be_root() {
  as_root=()
  ((EUID == 0)) && return 0
  as_root=(sudo -n)
  "${as_root[@]}" true 2>/dev/null
}

require_nginx() {
  PATH=$PATH:/usr/sbin
  have nginx && return 0
  install_packages "to compare with" nginx
  # Debian starts nginx at once, on port 80 of every address. Nobody asked for that.
  "${as_root[@]}" sh -c 'if [ -d /run/systemd/system ]; then systemctl disable --now nginx; else service nginx stop; fi' \
    >/dev/null 2>&1 || say "nginx may have been started as a service; it is not needed"
}

require_java() {
  have java || install_packages "to run a Kafka broker in tests" default-jre-headless
}

require_maven() {
  have mvn || install_packages "to fetch a Kafka broker for tests" maven
}
