#!/bin/sh
# Install ledgergate, with the packages that a lock names, into the environment /opt/ledgergate of the image.
#   install.sh LOCK
set -eu
pip() { /build/bin/pip --python /opt/ledgergate/bin/python install --no-compile "$@"; }
pip --require-hashes --only-binary :all: --requirement "$1"
pip --no-index --no-deps /dist/*.whl
/build/bin/python requirements/slim.py /opt/ledgergate/lib
# By hash, never checked: the code cannot change in the image. One process and one hash seed: bytecode depends on both;
# -f, since what pip has imported on its way has bytecode that depends on the clock.
PYTHONHASHSEED=0 python3 -m compileall -q -f --invalidation-mode unchecked-hash /opt/ledgergate/lib
find /opt/ledgergate -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
