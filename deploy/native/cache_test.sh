#!/usr/bin/env bash
# What the cache folder promises, on small files and without a network. Prints in cargo's words, so
# that its results are counted with all others.
set -uo pipefail
root=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../..
XDG_CACHE_HOME=$(mktemp -d)
# shellcheck source=/dev/null
for part in say cache; do source "$root/deploy/native/$part.sh"; done

declare -A SHA256=([part/1/file]=$(printf 'good' | sha256sum | cut -d' ' -f1))

arrives() { printf '%s' "$1" >"$scratch/arrived" && publish "$scratch/arrived" part/1/file; }

a_good_file_is_published_and_known_without_reading_it_again() {
  with_cache_lock arrives good
  is_known_good part/1/file
}

a_wrong_file_is_refused_and_never_appears() {
  (with_cache_lock arrives evil) && return 1
  [[ ! -e $cache/part/1/file ]]
}

a_flipped_byte_is_noticed() {
  with_cache_lock arrives good
  printf 'goof' >"$cache/part/1/file"
  ! is_known_good part/1/file && ! is_good part/1/file
}

a_damaged_file_is_replaced() {
  with_cache_lock arrives good
  printf 'goof' >"$cache/part/1/file"
  with_cache_lock arrives good
  is_known_good part/1/file && [[ $(cat "$cache/part/1/file") == good ]]
}

a_touched_file_is_read_and_found_good() {
  with_cache_lock arrives good
  touch "$cache/part/1/file"
  ! is_known_good part/1/file && is_good part/1/file && is_known_good part/1/file
}

what_a_killed_fetch_left_is_cleared() {
  mkdir -p "$scratch"
  touch "$scratch/half"
  with_cache_lock test ! -e "$scratch/half"
}

a_second_launcher_waits_for_the_first() {
  mkdir -p "$cache"
  exec 8>"$cache/lock"
  flock 8
  (exec 8>&- && with_cache_lock touch "$cache/second") &
  local second=$!
  # Whether the second waits is seen by its message, which it prints before it blocks.
  until grep -q "waiting for it" "$output"; do kill -0 "$second" || return 1; sleep 0.05; done
  [[ ! -e $cache/second ]] || return 1
  exec 8>&-
  wait "$second" && [[ -e $cache/second ]]
}

passed=0 failed=0
while read -r name; do
  output=$XDG_CACHE_HOME/output
  rm -rf "$cache"
  if ("$name") >"$output" 2>&1; then
    passed=$((passed + 1)) && echo "test launcher::$name ... ok"
  else
    failed=$((failed + 1)) && echo "test launcher::$name ... FAILED" && sed 's/^/  | /' "$output"
  fi
done < <(declare -F | cut -d' ' -f3 | grep -E '^(a|what)_')
rm -rf "$XDG_CACHE_HOME"
((failed == 0)) && verdict=ok || verdict=FAILED
echo "test result: $verdict. $passed passed; $failed failed; 0 ignored; 0 measured; 0 filtered out"
((failed == 0))
