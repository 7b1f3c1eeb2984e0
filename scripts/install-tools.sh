#!/usr/bin/env bash
# Installs what Reservoir's build, tests and demo use, in pinned versions, into .cache
# (which git ignores) and, for Debian packages, into the system. Does nothing, and says
# nothing, for what is already there.
#
#   scripts/install-tools.sh [demo|clickhouse|lint|browser|test]
#
#   demo         redis-server, an S3 server (versitygw) and, where npm is, the ClickHouse engine
#   clickhouse   the ClickHouse engine
#   lint         golangci-lint
#   browser      Chromium
#   test         all of these, curl, jq, zstd, PostgreSQL, MariaDB, DuckDB, axe-core and the ClickHouse engine (default)
set -euo pipefail

versitygw_version=v1.8.0
golangci_lint_version=v2.15.0
redis_min_major=7

cd "$(dirname "${BASH_SOURCE[0]}")/.."
cache=$PWD/.cache
mkdir -p "$cache/bin"
export PATH="$cache/bin:$PATH"

say() { echo "install-tools: $*" >&2; }
die() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# Debian packages

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"
  elif have sudo; then sudo "$@"
  else die "cannot run '$*': neither root nor sudo"
  fi
}

# Debian starts a service when it installs one; policy-rc.d forbids that for as long as
# the installation lasts.
apt_install() {
  have apt-get || die "needs $*; install them (macOS: brew install ${*/redis-server/redis}) and run again"
  say "installing $* by apt"
  local policy=/usr/sbin/policy-rc.d ours=
  if [ ! -e "$policy" ]; then
    ours=yes
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod +x "$policy"
    trap 'as_root rm -f /usr/sbin/policy-rc.d' EXIT
  fi
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
  if [ -n "$ours" ]; then
    as_root rm -f "$policy"
    trap - EXIT
  fi
}

redis_major() {
  redis-server --version 2>/dev/null | sed -n 's/.* v=\([0-9]*\)\..*/\1/p'
}

recent_redis() { [ "$(redis_major)" -ge "$redis_min_major" ] 2>/dev/null; }

packages() {
  local missing=() program
  for program in "$@"; do
    have "$program" || missing+=("$program")
  done
  if [ ${#missing[@]} -gt 0 ]; then apt_install "${missing[@]}"; fi
  recent_redis || die "redis-server is version $(redis_major), Reservoir needs $redis_min_major or later: \
put a newer one on PATH or name it in RESERVOIR_TOOL_REDIS_SERVER"
}

# Debian keeps PostgreSQL's programs where PATH does not lead.
databases() {
  local missing=()
  have postgres || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || missing+=(postgresql)
  have mariadbd || [ -x /usr/sbin/mariadbd ] || missing+=(mariadb-server)
  if [ ${#missing[@]} -gt 0 ]; then apt_install "${missing[@]}"; fi
}

# The page is tested in it.
browser() {
  local name
  for name in chromium chromium-browser google-chrome; do
    if have "$name"; then return; fi
  done
  [ -n "${RESERVOIR_TOOL_CHROMIUM:-}" ] || apt_install chromium
}

# Go programs

# go_tool NAME PACKAGE VERSION: built by this Go, or one of the same minor version.
go_tool() {
  local name=$1 package=$2 version=$3 go built
  go=$(go env GOVERSION | cut -d. -f1,2)
  built=$(go version -m "$cache/bin/$name" 2>/dev/null || true)
  if [[ $built == *": $go"* && $built == *$'\tmod\t'*$'\t'"$version"$'\t'* ]]; then return; fi
  say "building $name $version (once; a few minutes)"
  (cd / && GOBIN="$cache/bin" GOFLAGS='' CGO_ENABLED=0 go install -trimpath -ldflags='-s -w' "$package@$version")
}

# Independent readers of the archive, and a judge of the page

# Exact versions and their checksums are in scripts/node/package-lock.json. `npm ci`
# would insist on an entry for every platform; `npm install` checks those it uses.
node_packages() {
  local lock=scripts/node/package-lock.json
  if cmp -s "$lock" "$cache/node/installed.json"; then return; fi
  if ! have node || ! have npm; then die "needs Node.js 18 or later with npm (Debian: apt install nodejs npm)"; fi
  say "installing DuckDB, axe-core and the ClickHouse engine by npm (once; 600 MB)"
  mkdir -p "$cache/node"
  cp scripts/node/package.json "$lock" "$cache/node/"
  npm --prefix "$cache/node" install --ignore-scripts --no-audit --no-fund --loglevel=error >&2
  other_chdb
  cp "$lock" "$cache/node/installed.json"
}

# The lock file holds the ClickHouse engine for Linux on x86-64; elsewhere the
# package of the platform has the same version.
other_chdb() {
  local platform version
  case "$(uname -s)/$(uname -m)" in
    Linux/x86_64) return ;;
    Linux/aarch64 | Linux/arm64) platform=linux-arm64-gnu ;;
    Darwin/arm64) platform=darwin-arm64 ;;
    Darwin/x86_64) platform=darwin-x64 ;;
    *) die "no ClickHouse engine for $(uname -s) on $(uname -m)" ;;
  esac
  version=$(sed -n 's|.*"@chdb/lib-linux-x64-gnu": "\(.*\)".*|\1|p' scripts/node/package.json)
  npm --prefix "$cache/node" install --no-save --ignore-scripts --no-audit --no-fund --loglevel=error \
    "@chdb/lib-$platform@$version" >&2
}

chengine() {
  CGO_ENABLED=0 go build -trimpath -o "$cache/bin/chengine" ./internal/stack/chengine
}

s3_server() { go_tool versitygw github.com/versity/versitygw/cmd/versitygw "$versitygw_version"; }
linter() { go_tool golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint "$golangci_lint_version"; }

have go || die "needs Go 1.26 or later: https://go.dev/dl"
case ${1:-test} in
  demo)
    packages redis-server
    s3_server
    "$BASH" scripts/install-tools.sh clickhouse || say "the demo goes on without ClickHouse, and shows no projections"
    ;;
  clickhouse) node_packages; chengine ;;
  lint) linter ;;
  test) packages redis-server curl jq zstd; databases; browser; s3_server; linter; node_packages; chengine ;;
  browser) browser ;;
  *) die "unknown set of tools '$1': demo, clickhouse, lint, browser or test" ;;
esac
