# Building with cargo, and running what was built. Cargo's own output is the progress that is shown:
# a word on what is compiled where standard error is a log, a bar where it is a terminal.

target=$(realpath -m "${CARGO_TARGET_DIR:-$root/target}")

build_executable() {
  local quiet=()
  if is_built; then quiet=(--quiet); else say "building in release; the first time takes minutes"; fi
  cargo_here build --release --package app --bin tollgate "${quiet[@]}" >&2 || die "the build failed"
}

# Only a guess of how much there is to say; cargo decides what there is to do.
is_built() {
  [[ -x $target/release/tollgate ]] &&
    [[ -z $(find "$root" -path "$root/target" -prune -o \( -name '*.rs' -o -name 'Cargo.*' \) -newer "$target/release/tollgate" -print -quit) ]]
}

build_bench() {
  say "building the benchmark in release"
  cargo_here build --release --package app --bin tollgate --package tests --bin tollgate-bench >&2 || die "the build failed"
}

# The caller's folder stays the current one, since flags such as --config are relative to it. Where it builds
# to is said, since what it builds is run from there whatever a user's own cargo settings say.
cargo_here() { cargo "$1" --manifest-path "$root/Cargo.toml" --target-dir "$target" "${@:2}"; }

run_executable() {
  export_parts native_environment
  exec "$target/release/tollgate" "$@"
}

run_bench() {
  export_parts test_environment
  export TOLLGATE_BIN=$target/release/tollgate
  exec "$target/release/tollgate-bench" "$@"
}

export_parts() { # native_environment or test_environment
  local variables
  mapfile -t variables < <("$1")
  export "${variables[@]}"
}
