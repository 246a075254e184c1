# Speaking to whoever runs the launcher: messages and progress, all on standard error, so that
# standard output belongs to the command that was asked for.

say() { printf 'tollgate: %s\n' "$*" >&2; }

die() {
  say "$*"
  exit 1
}

# with_progress LABEL FOLDER EXPECTED_MB COMMAND…
#
# Runs COMMAND silently and shows how much of EXPECTED_MB has arrived in FOLDER (`-` and 0: only the
# time is shown). A terminal gets one line that moves, a log one line every five seconds. What
# COMMAND printed is shown only if it fails. Returns its exit status.
with_progress() {
  local label=$1 folder=$2 expected_mb=$3 status=0 ticks=0 began=$SECONDS log
  shift 3
  log=$(mktemp)
  "$@" >"$log" 2>&1 </dev/null &
  running_child=$!
  say "$label"
  while kill -0 "$running_child" 2>/dev/null; do
    sleep 0.2
    ticks=$((ticks + 1))
    if [[ -t 2 ]]; then
      printf '\r  %s\033[K' "$(progress_so_far "$folder" "$expected_mb" "$began")" >&2
    elif ((ticks % 25 == 0)); then
      say "  $(progress_so_far "$folder" "$expected_mb" "$began")"
    fi
  done
  wait "$running_child" || status=$?
  running_child=
  [[ -t 2 ]] && printf '\r\033[K' >&2
  ((status == 0)) || tail -n 15 "$log" | sed 's/^/  | /' >&2
  rm -f "$log"
  return "$status"
}

progress_so_far() {
  local folder=$1 expected_mb=$2 began=$3 have_mb
  if ((expected_mb > 0)); then
    have_mb=$(du -sm "$folder" 2>/dev/null | cut -f1)
    have_mb=$((have_mb > expected_mb ? expected_mb : have_mb))
    printf '%d of %d MB, %d%%, ' "$have_mb" "$expected_mb" $((100 * have_mb / expected_mb))
  fi
  printf '%d s' $((SECONDS - began))
}

# A launcher that is stopped takes the command it waits for with it.
running_child=
stop_running_child() {
  [[ -z $running_child ]] || kill "$running_child" 2>/dev/null || true
}
trap stop_running_child EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
