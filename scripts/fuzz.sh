#!/usr/bin/env bash
# Runs every fuzz target of the module, one after the other, each for the given time.
#
#   scripts/fuzz.sh [30s]
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
time=${1:-30s}

found=0
for package in $(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./...); do
  while read -r target; do
    found=1
    echo "fuzz: $package $target"
    go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$package"
  done < <(go test -list '^Fuzz' "$package" | grep '^Fuzz' || true)
done
[ "$found" -eq 1 ] || { echo "fuzz: no targets" >&2; exit 1; }
