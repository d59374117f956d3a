#!/usr/bin/env bash
# Debian's Chromium, for the tests of the search page; nothing where it is there already.
# Where it cannot be installed this says what to do and ends well: outside CI those tests are then skipped.
set -euo pipefail

missing=()
command -v chromium >/dev/null || missing+=(chromium)
command -v chromedriver >/dev/null || missing+=(chromium-driver)
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "browser: the tests of the search page need chromium and chromedriver on PATH."
  echo "browser: on Debian, as root: apt-get install --no-install-recommends ${missing[*]}"
  exit 0
fi
echo "browser: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq && apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null \
  || echo "browser: apt-get could not install ${missing[*]}; its words are above"
