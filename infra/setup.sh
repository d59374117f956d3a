#!/usr/bin/env bash
# Builds .venv from the lock, fetches the jars; each once, and nothing when both are current.
set -euo pipefail
cd "$(dirname "$0")/.."

UV_VERSION=0.13.9
stamp=.venv/.embedlake-setup
wanted=$(cat requirements-dev.lock pyproject.toml pipelines/lake/jars.toml infra/setup.sh | sha256sum | cut -d' ' -f1)
[ -x .venv/bin/embedlake ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && exit 0

uv=$(command -v uv || true)
if [ -z "$uv" ]; then
  uv=.uv/bin/uv
  if [ ! -x "$uv" ]; then
    echo "setup: uv is absent, bootstrapping uv $UV_VERSION by pip into .uv/"
    python3 -m pip install --quiet --disable-pip-version-check --target .uv "uv==$UV_VERSION"
  fi
fi

export VIRTUAL_ENV="$PWD/.venv"
[ -x .venv/bin/python ] || "$uv" venv --quiet --python 3.11 .venv
echo "setup: installing the locked dependencies (about 3 GB the first time)"
# Compiled here: where PYTHONDONTWRITEBYTECODE is set, as many images have it, every process would compile
# what it imports anew (torch and transformers: 5 to 7 s for 2.7).
"$uv" pip sync --quiet --require-hashes --compile-bytecode requirements-dev.lock
"$uv" pip install --quiet --no-deps --no-build-isolation --editable .
echo "setup: fetching the Spark jars"
.venv/bin/python -m pipelines.lake.jars
echo "$wanted" > "$stamp"
