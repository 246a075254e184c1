# The Redis that tests and measurements start. `up` needs none, and a gateway that runs split is pointed
# at somebody's server.

require_redis() {
  have redis-server && return 0
  install_packages "to run Redis in tests" redis-server
  # Debian starts it at once, on its usual port. Nobody asked for that.
  "${as_root[@]}" sh -c 'if [ -d /run/systemd/system ]; then systemctl disable --now redis-server; else service redis-server stop; fi' \
    >/dev/null 2>&1 || say "redis-server may have been started as a service; it is not needed"
}

# The variable by which tests and measurements find it.
redis_environment() { printf '%s=%s\n' TOLLGATE_REDIS_SERVER "$(command -v redis-server)"; }
