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

sums=$XDG_CACHE_HOME/sums

folder_arrives() { # FILE=CONTENT…
  local file
  mkdir "$scratch/arrived"
  for file in "$@"; do printf '%s' "${file#*=}" >"$scratch/arrived/${file%%=*}"; done
  publish_folder "$scratch/arrived" many/1 "$sums"
}

a_folder_arrives_whole_or_not_at_all() {
  (cd "$XDG_CACHE_HOME" && printf A >a && printf B >b && sha256sum a b >"$sums")
  (with_cache_lock folder_arrives a=A b=evil) && return 1
  (with_cache_lock folder_arrives a=A) && return 1
  (with_cache_lock folder_arrives a=A b=B c=C) && return 1
  [[ ! -e $cache/many/1 ]] || return 1
  with_cache_lock folder_arrives a=A b=B
  is_known_good_folder many/1 "$sums"
}

a_folder_that_changed_is_noticed_and_replaced() {
  (cd "$XDG_CACHE_HOME" && printf A >a && printf B >b && sha256sum a b >"$sums")
  with_cache_lock folder_arrives a=A b=B
  touch "$cache/many/1/a"
  ! is_known_good_folder many/1 "$sums" && is_good_folder many/1 "$sums" || return 1
  rm "$cache/many/1/b"
  ! is_known_good_folder many/1 "$sums" && ! is_good_folder many/1 "$sums" || return 1
  with_cache_lock folder_arrives a=A b=B
  is_known_good_folder many/1 "$sums"
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
