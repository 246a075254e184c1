# Client software that the scenarios call the gateway with, each part pinned by a lock file: the official
# SDKs (tests/sdk), and what others have built (tests/foreign).

readonly CLIENTS=(sdk foreign)

require_sdks() {
  require_fetch_tools
  local name requirements venv
  declare -gA client_venv=()
  for name in "${CLIENTS[@]}"; do
    requirements=$root/tests/$name/python/requirements.txt
    venv=$(venv_folder "$name" "$requirements")
    venv_is_complete "$venv" || with_cache_lock make_venv "$venv" "$requirements"
    client_venv[$name]=$venv
    install_node_modules "$root/tests/$name/node"
  done
}

# Beside the scripts, where Node looks for them. The copy of the lock file comes last: without it,
# or with another one, the folder is made anew.
install_node_modules() { # FOLDER
  local installed=$1/node_modules/.installed-lock.json
  cmp -s "$1/package-lock.json" "$installed" && return 0
  with_progress "installing Node packages of ${1#"$root/"}" - 0 \
    env --chdir="$1" npm_config_cache="$target/npm" npm_config_update_notifier=false \
    npm ci --ignore-scripts --no-audit --no-fund --loglevel=error ||
    die "the Node packages could not be installed. Is this machine online?"
  cp "$1/package-lock.json" "$installed"
}

# The variables by which the scenarios find them.
sdk_environment() {
  printf '%s=%s\n' \
    TOLLGATE_TEST_PYTHON "${client_venv[sdk]}/bin/python" \
    TOLLGATE_TEST_NODE_DIR "$root/tests/sdk/node" \
    TOLLGATE_TEST_FOREIGN_PYTHON "${client_venv[foreign]}/bin/python" \
    TOLLGATE_TEST_FOREIGN_NODE_DIR "$root/tests/foreign/node"
}
