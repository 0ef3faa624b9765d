#!/usr/bin/env bash
# A GPU that is borrowed for minutes: first whether it is right and how fast, then the paper's first cells.
#   bash benchmarks/device/borrowed.sh check SECONDS OUT [-- --set KEY=VALUE ...]
#   bash benchmarks/device/borrowed.sh train SECONDS OUT [CELL...] [-- --set KEY=VALUE ...]
# Run it in the root of a checkout, with the images prepared or `--set data.cifar10=FILE` given.  Every
# step is noted in OUT/log.txt, and one that fails stops no other.  DEVICE=cpu tries it without a GPU.
set -u
what=$1 limit=$2 out=$3
shift 3
cells=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do cells+=("$1"); shift; done
[ $# -gt 0 ] && shift
# what is left are settings, for every command
PY=${PY:-python3} DEVICE=${DEVICE:-cuda}
export PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1
mkdir -p "$out"
left() { echo $((limit - SECONDS)); }
log() { printf '%4ss | %s\n' "$SECONDS" "$*" | tee -a "$out/log.txt"; }
step() { # NAME SECONDS COMMAND...
  local name=$1 most=$2 status
  shift 2
  timeout -k 5 "$most" "$@" >"$out/$name.log" 2>&1
  status=$?
  log "$name: status $status; $(tail -n 1 "$out/$name.log" | cut -c1-160)"
  return $status
}

check() {
  # what is right: both at once, neither is timed; the tests are meant to take three minutes
  step doctor $(($(left) / 2)) "$PY" -m reproduce doctor --preset paper --device "$DEVICE" "$@" &
  REPRODUCE_TEST_DEVICE=$DEVICE step tests $(($(left) * 2 / 3)) "$PY" -m pytest -m gpu -v &
  wait
  # how fast, alone on the card
  step steps "$(left)" "$PY" -m benchmarks.steps --device "$DEVICE" --methods trades,at,awp-trades \
    --architectures wrn-34-1,wrn-34-10 --precisions tf32,bf16 --forms graph,eager --json "$out/steps.json"
}

train() {
  local number=0 minutes
  [ ${#cells[@]} -gt 0 ] || cells=(cifar10/wrn-34-1/trades/lam-6/seed-0)
  local settings=(--preset paper --set "machine.device=$DEVICE" --set "results=$out/results" --set "machine.jobs_per_gpu=${#cells[@]}" "$@")
  step prepare 120 "$PY" -m reproduce prepare cifar10 "${settings[@]}"
  # each stops by itself, saved, before time is over; what is not finished goes on from there
  minutes=$(awk "BEGIN {print ($(left) - 75) / 60}")
  for cell in "${cells[@]}"; do
    {
      step "train-$number" "$(left)" "$PY" -m reproduce train "$cell" "${settings[@]}" --max-minutes "$minutes" &&
        for checkpoint in best-test last; do
          step "pgd20-$checkpoint-$number" "$(left)" "$PY" -m reproduce evaluate "$cell" --attack pgd20 --checkpoint "$checkpoint" "${settings[@]}"
        done
    } &
    number=$((number + 1))
  done
  wait
}

log "$what on $DEVICE, $limit s"
"$what" "$@"
log "done"
