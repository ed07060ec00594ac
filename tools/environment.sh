# Sourced by the tools: makes .venv if absent and installs the project with the extras named in $EXTRAS.
# Nothing is installed again while pyproject.toml is older than the last install of these extras.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON=${PYTHON:-python3}
if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "h4hc needs Python 3.11 or later; set PYTHON=/path/to/python3.11 (found: $("$PYTHON" --version))" >&2
    exit 10
fi
[ -x .venv/bin/python ] || "$PYTHON" -m venv .venv
stamp=".venv/.installed-${EXTRAS:-core}"
if [ ! -e "$stamp" ] || [ pyproject.toml -nt "$stamp" ] || [ tests/models.txt -nt "$stamp" ]; then
    echo "installing h4hc${EXTRAS:+ with $EXTRAS} into .venv ..." >&2
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -e ".${EXTRAS:+[$EXTRAS]}"
    case ${EXTRAS:-} in test | dev) .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r tests/models.txt ;; esac
    .venv/bin/python -m compileall -q h4hc passes targets nas # pip does not for an editable install
    touch "$stamp"
fi
