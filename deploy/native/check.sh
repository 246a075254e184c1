# Running every test and counting what it said.

# test_everything [FILTER]: streams cargo's output. The last line is `N passed, N failed`.
test_everything() {
  local log=$target/test-output.log status=0 variables
  mkdir -p "$target"
  mapfile -t variables < <(test_environment && sdk_environment)
  {
    export "${variables[@]}" TOLLGATE_BIN="$target/release/tollgate"
    bash "$root/deploy/native/cache_test.sh" || status=1
    # The scenarios start the executable, which `cargo test` alone does not build.
    cargo_here build --release --workspace --bins &&
      cargo_here test --release --workspace --no-fail-fast "$@" || status=1
    ((status == 0))
  } 2>&1 </dev/null | tee "$log" || status=1
  print_counts "$log" "$status"
}

# Adds up the result lines of all test binaries. Whatever went wrong without such a line (a build, a
# crashed test binary) counts as one failure; no test at all is one too.
print_counts() { # LOG STATUS
  local passed failed
  # Wherever they stand in a line: cargo writes to two streams, and this is one log.
  read -r passed failed < <(sed -nE 's/.*test result: .* ([0-9]+) passed; ([0-9]+) failed;.*/\1 \2/p' "$1" |
    awk '{ passed += $1; failed += $2 } END { print passed + 0, failed + 0 }')
  if (($2 != 0 && failed == 0)); then
    say "something failed outside of a test; see above, or $1"
    failed=1
  fi
  ((passed + failed > 0)) || { say "no test ran"; failed=1; }
  echo "$passed passed, $failed failed"
  ((failed == 0))
}
