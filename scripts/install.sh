#!/bin/sh
# Install into .venv what `pip install` would, with the same arguments, but sooner: with uv.
#
# uv is the one of the path, or is had by pip; where there is none (or NO_UV=1), pip does it. uv also
# knows which build of torch fits: that of the GPU, or the CPU's, a tenth of the download. It does not
# read pip's settings, so those of the environment that name sources are passed on.
set -u
own=.venv/bin
uv=
if [ -z "${NO_UV:-}" ]; then
    uv=$(command -v uv || true)
fi
if [ ! -x $own/python ]; then
    if [ -n "$uv" ]; then
        "$uv" venv --quiet --seed --allow-existing --python "${PYTHON:-python3}" .venv || exit
    else
        "${PYTHON:-python3}" -m venv .venv || exit
        [ -n "${NO_UV:-}" ] || $own/pip install -qq --disable-pip-version-check uv ||
            echo "note: uv cannot be had: pip takes its place and longer" >&2
    fi
fi
if [ -z "${NO_UV:-}" ] && [ -z "$uv" ] && [ -x $own/uv ]; then
    uv=$own/uv
fi
if [ -n "$uv" ]; then
    sources() { echo "$1" | tr -s ' ' ','; }
    export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-${PIP_INDEX_URL:-}}"
    export UV_INDEX="${UV_INDEX:-${PIP_EXTRA_INDEX_URL:-}}"
    export UV_FIND_LINKS="${UV_FIND_LINKS:-$(sources "${PIP_FIND_LINKS:-}")}"
    # Who names sources of their own has torch from there.
    if [ -z "$UV_DEFAULT_INDEX$UV_INDEX$UV_FIND_LINKS" ]; then
        export UV_TORCH_BACKEND="${UV_TORCH_BACKEND:-auto}"
    fi
    for name in UV_DEFAULT_INDEX UV_INDEX UV_FIND_LINKS; do
        eval "[ -n \"\$$name\" ] || unset $name"
    done
    "$uv" pip install --quiet --python $own/python "$@" && exit
    echo "note: uv could not install it: pip tries" >&2
fi
exec $own/pip install --no-compile --quiet --disable-pip-version-check "$@"
