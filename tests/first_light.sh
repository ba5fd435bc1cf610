#!/usr/bin/env bash
# The first run on a CUDA device: the most informative steps come first. Each step is a separate process with a time
# limit, and all write to one report. Without a device, the steps that need one are skipped.
#
#   tests/first_light.sh FOLDER     writes report.txt, summary.txt and some tables to FOLDER
#
# The environment variable PYTHON names the interpreter, and WHEELS names a folder of wheels to install first, for
# machines without a network.
set -u
here=$(cd "$(dirname "$0")/.." && pwd)
out=$(mkdir -p "${1:?a folder for the report}" && cd "$1" && pwd)
python=${PYTHON:-python3}
report=$out/report.txt
summary=$out/summary.txt
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
: >"$report"
: >"$summary"
export CUPY_CACHE_DIR=${CUPY_CACHE_DIR:-$scratch/cupy} XLA_PYTHON_CLIENT_PREALLOCATE=false PYTHONDONTWRITEBYTECODE=1

# log NAME SECONDS COMMAND...: run a command with a time limit, and write its result to the summary.
log() {
  local name=$1 limit=$2 begin=$SECONDS status=0
  shift 2
  printf '\n== %s (%d s)\n' "$name" "$SECONDS" >>"$report"
  timeout --kill-after 5 "$limit" "$@" >>"$report" 2>&1 || status=$?
  case $status in
    0) result=passed ;;
    124 | 137) result="stopped after $limit s" ;;
    *) result="failed with status $status" ;;
  esac
  printf '%-28s %4d s  %s\n' "$name" $((SECONDS - begin)) "$result" | tee -a "$summary"
  return $status
}
skip() { printf '%-28s    0 s  skipped: %s\n' "$1" "$2" | tee -a "$summary"; }

# step NAME SECONDS COMMAND...: the same, but skip the step if there is no device or no such command.
step() {
  if [ -z "$device" ]; then
    skip "$1" "no device"
  elif ! command -v "$3" >/dev/null; then
    skip "$1" "no $3"
  else
    log "$@"
  fi
}

device=
if "$python" -c 'import cupy; raise SystemExit(not cupy.cuda.runtime.getDeviceCount())' >"$scratch/device" 2>&1; then
  device=yes
fi
step "device" 20 nvidia-smi
log "versions" 60 "$python" "$here/tests/first_light.py" versions
cat "$scratch/device" >>"$report"
if [ -n "${WHEELS:-}" ]; then
  log "carried wheels" 60 "$python" -m pip install --quiet --no-index --no-deps --target "$scratch/site" "$WHEELS"/*.whl
  export PYTHONPATH=$scratch/site${PYTHONPATH:+:$PYTHONPATH}
fi
if ! "$python" -I -c 'import elasticnd' 2>/dev/null; then
  build=("$python" -m pip install --quiet --no-build-isolation --no-deps --target "$scratch/site" "$here")
  CMAKE_BUILD_PARALLEL_LEVEL=16 log "build" 120 "${build[@]}" || log "build without XLA" 120 \
    env CMAKE_ARGS=-DCMAKE_DISABLE_FIND_PACKAGE_jaxlib=ON CMAKE_BUILD_PARALLEL_LEVEL=16 "${build[@]}"
  export PYTHONPATH=$scratch/site${PYTHONPATH:+:$PYTHONPATH}
fi
cd "$here/tests" || exit 1
log "the package" 30 "$python" -c 'import elasticnd; elasticnd.show_config()'

# Rung by rung: the first failure shows where the fault is, and later rungs still report.
rungs=$("$python" first_light.py) || rungs=
while IFS= read -r rung; do
  step "rung: $rung" 40 "$python" first_light.py "$rung"
done <<<"$rungs"

suite=("$python" -m pytest -p no:cacheprovider -W default)
step "tests" 150 "${suite[@]}" -q -n 8 --timeout 60 --junitxml "$out/tests.xml" test_gpu_*.py
step "kernels" 40 "$python" first_light.py kernels "$out/kernels.csv"
# Memory pools hide the errors that the checkers look for.
export ELASTICND_WITHOUT_POOLS=1 PYTORCH_NO_CUDA_MEMORY_CACHING=1
part=(-q -x -p no:xdist -k "cupy and (mirror-3 or axes or gradients or batches)" test_gpu_values.py)
for check in memcheck:60 racecheck:30 initcheck:20 synccheck:15; do
  step "${check%:*}" "${check#*:}" compute-sanitizer --tool "${check%:*}" --target-processes all --error-exitcode 9 \
    "${suite[@]}" "${part[@]}"
done
unset ELASTICND_WITHOUT_POOLS PYTORCH_NO_CUDA_MEMORY_CACHING
step "benchmark" 90 "$python" benchmarks/gpu.py
step "benchmark again" 60 "$python" benchmarks/gpu.py
step "host time of a call" 20 "$python" first_light.py small
for rung in "sample 3-D order 3" "sample 3-D order 1" "gradients 3-D"; do
  step "profile: $rung" 30 ncu --set basic --csv -k regex:'sample|filter|splat' "$python" first_light.py "$rung"
done
step "kernels as compiled" 20 tar -cf "$out/kernels.tar" -C "$(dirname "$CUPY_CACHE_DIR")" "$(basename "$CUPY_CACHE_DIR")"
printf '\n== summary\n' >>"$report"
cat "$summary" >>"$report"
! grep -q 'failed\|stopped' "$summary"
