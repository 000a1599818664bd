#!/bin/sh
# Makes a virtual environment with Python 3.11: launch/make_venv.sh FOLDER
set -eu
folder=$1
check='import sys; sys.exit(sys.version_info[:2] != (3, 11))'
if [ -x "$folder/bin/python" ]; then
  "$folder/bin/python" -c "$check" && "$folder/bin/python" -m pip --version >/dev/null && exit 0
  echo "$folder is not a working environment of Python 3.11. Remove it (rm -r $folder) and try again." >&2
  exit 1
fi
for python in python3.11 python3 python; do
  # A shim may be there without the version behind it: run it to know.
  if "$python" -c "import venv, ensurepip; $check" 2>/dev/null; then
    exec "$python" -m venv "$folder"
  fi
done
if command -v uv >/dev/null 2>&1; then
  exec uv venv --seed --python 3.11 "$folder"
fi
echo "Python 3.11 is needed (tensorflow 2.15 has no build for newer ones) and was not found." >&2
echo "Install python3.11 with its venv module, or uv (pip install uv), and run the same command again." >&2
exit 1
