# The cache folder: shared by all clones of one user, safe to delete at any time.
#
#   lock                  held by the one launcher that fetches
#   tmp/                  belongs to the holder of the lock; emptied by the next one
#   PART/VERSION/FILE     appears by rename, complete and with the pinned sha256, or not at all
#   PART/VERSION/.FILE    beside it: the sha256 that was found, and the size, change time and inode
#                         that the file had then

cache=${XDG_CACHE_HOME:-$HOME/.cache}/tollgate
scratch=$cache/tmp

# Runs a function as the only launcher that writes to the cache folder.
#
# Children inherit the lock, so a fetch that outlives a killed launcher keeps it until it ends, and
# no one else writes into the same scratch folder.
with_cache_lock() {
  mkdir -p "$cache" || die "the cache folder cannot be made: $cache"
  exec 9>"$cache/lock"
  flock --nonblock 9 || {
    say "another tollgate is setting up in $cache; waiting for it"
    flock 9
  }
  rm -rf "$scratch"
  mkdir "$scratch"
  "$@"
  rm -rf "$scratch"
  exec 9>&-
}

# Whether the file was found good and has not been touched since. Hashing 559 MB takes seconds, so
# it is done when a file arrives or has changed, not at every start.
is_known_good() { # FILE, relative to the cache folder
  [[ -f $cache/$1 && $(cat "$(note_of "$1")" 2>/dev/null) == "$(fingerprint "$1")" ]]
}

# Whether the file is good, by reading it if that is not yet known.
is_good() {
  is_known_good "$1" && return 0
  [[ -f $cache/$1 ]] || return 1
  if [[ $(sha256_of "$cache/$1") != "${SHA256[$1]}" ]]; then
    say "$cache/$1 is damaged; it is fetched again"
    return 1
  fi
  fingerprint "$1" >"$(note_of "$1")"
}

are_all_known_good() { local file; for file in "$@"; do is_known_good "$file" || return 1; done; }
are_all_good() { local file; for file in "$@"; do is_good "$file" || return 1; done; }

# publish SOURCE FILE: moves a fetched file to its place if it is the pinned one.
publish() {
  check_sha256 "$1" "${SHA256[$2]}"
  mkdir -p "$(dirname "$cache/$2")"
  sync --data "$1" # a rename may reach the disk before the bytes do
  mv -f "$1" "$cache/$2"
  fingerprint "$2" >"$(note_of "$2")"
}

check_sha256() { # FILE EXPECTED
  local found
  found=$(sha256_of "$1")
  [[ $found == "$2" ]] || die "$(basename "$1") is not the pinned file: sha256 $found, expected $2"
}

sha256_of() { sha256sum "$1" | cut -d' ' -f1; }
note_of() { printf '%s/.%s' "$(dirname "$cache/$1")" "$(basename "$1")"; }
fingerprint() { printf '%s %s\n' "${SHA256[$1]}" "$(stat -c '%s %z %i' "$cache/$1")"; }

# A folder of many files is one thing: it appears by rename, with exactly the files of a list of
# sha256 sums, or not at all. `PART/.VERSION` beside it notes what was found good.

is_known_good_folder() { # FOLDER SUMS, FOLDER relative to the cache folder
  [[ -d $cache/$1 && $(cat "$(note_of "$1")" 2>/dev/null) == "$(folder_fingerprint "$1" "$2")" ]]
}

is_good_folder() { # FOLDER SUMS
  is_known_good_folder "$1" "$2" && return 0
  [[ -d $cache/$1 ]] || return 1
  if ! has_exactly "$cache/$1" "$2"; then
    say "$cache/$1 is damaged; it is fetched again"
    return 1
  fi
  folder_fingerprint "$1" "$2" >"$(note_of "$1")"
}

# publish_folder SOURCE FOLDER SUMS: moves a fetched folder to its place if it holds what is pinned.
publish_folder() {
  has_exactly "$1" "$3" || die "$(basename "$2") is not what is pinned: see ${3#"$root/"}"
  mkdir -p "$(dirname "$cache/$2")"
  sync --file-system "$1" # a rename may reach the disk before the bytes do
  rm -rf "${cache:?}/$2"
  mv "$1" "$cache/$2"
  folder_fingerprint "$2" "$3" >"$(note_of "$2")"
}

has_exactly() { # FOLDER SUMS
  diff <(cut -c67- "$2") <(find "$1" -mindepth 1 -printf '%P\n' | LC_ALL=C sort) >/dev/null &&
    (cd "$1" && sha256sum --check --strict --quiet "$2") >/dev/null 2>&1
}

folder_fingerprint() { # FOLDER SUMS
  { cat "$2" && (cd "$cache/$1" && find . -type f -printf '%P %s %C@ %i\n' | LC_ALL=C sort); } | sha256sum
}
