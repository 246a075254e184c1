# The official client SDKs that the scenarios call the gateway with, each pinned by a lock file.

sdk_tests=$root/tests/sdk

require_sdks() {
  require_fetch_tools
  local requirements=$sdk_tests/python/requirements.txt
  sdk_venv=$(venv_folder sdk "$requirements")
  venv_is_complete "$sdk_venv" || with_cache_lock make_venv "$sdk_venv" "$requirements"
  install_node_modules
}

# Beside the scripts, where Node looks for them. The copy of the lock file comes last: without it,
# or with another one, the folder is made anew.
install_node_modules() {
  local folder=$sdk_tests/node
  local installed=$folder/node_modules/.installed-lock.json
  cmp -s "$folder/package-lock.json" "$installed" && return 0
  with_progress "installing Node packages of tests/sdk/node" - 0 \
    env --chdir="$folder" npm_config_cache="$target/npm" npm_config_update_notifier=false \
    npm ci --ignore-scripts --no-audit --no-fund --loglevel=error ||
    die "the Node packages could not be installed. Is this machine online?"
  cp "$folder/package-lock.json" "$installed"
}

# The variables by which the scenarios find the SDKs.
sdk_environment() {
  printf '%s=%s\n' \
    TOLLGATE_TEST_PYTHON "$sdk_venv/bin/python" \
    TOLLGATE_TEST_NODE_DIR "$sdk_tests/node"
}
