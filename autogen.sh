#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Makes ./configure. Needs autoconf, automake, libtool and pkg-config.
set -e
cd "$(dirname "$0")"
mkdir -p build-aux m4
exec autoreconf --install --warnings=all "$@"
