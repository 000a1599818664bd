#!/usr/bin/env bash
# Starts N workers of one training run on this machine, each a process:
#   launch/multiworker.sh N --config=... --workdir=... [more flags of launch.train]
# Every worker reads 1/N of each batch. Exit code 0 if all workers end well.
set -u
if ! [[ "${1:-}" =~ ^[1-9][0-9]*$ ]]; then
  echo "usage: $0 NUM_WORKERS --config=... --workdir=... [flags]" >&2
  exit 1
fi
num_workers=$1
shift
python=${PYTHON:-python}
# Ports that the system has just given out as free.
addresses=$("$python" - "$num_workers" <<'PY'
import socket, sys
sockets = [socket.socket() for _ in range(int(sys.argv[1]))]
for s in sockets:
    s.bind(("localhost", 0))
print(",".join(f'"localhost:{s.getsockname()[1]}"' for s in sockets))
PY
)
pids=()
trap 'kill -TERM $(jobs -pr) 2>/dev/null' TERM INT
for ((index = 0; index < num_workers; index++)); do
  TF_CONFIG="{\"cluster\": {\"worker\": [$addresses]}, \"task\": {\"type\": \"worker\", \"index\": $index}}" \
    "$python" -m launch.train "$@" --config.runtime.strategy=multi_worker &
  pids+=($!)
done
# One worker that fails leaves the others waiting for it: end them. A signal to
# this script interrupts `wait` too, and the workers get the time to save.
code=0
while [[ -n "$(jobs -pr)" ]]; do
  wait -n || { code=1; kill -TERM $(jobs -pr) 2>/dev/null; }
done
for pid in "${pids[@]}"; do
  wait "$pid" || code=1
done
exit $code
