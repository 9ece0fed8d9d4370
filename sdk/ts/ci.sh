#!/usr/bin/env bash
# Builds the TypeScript SDK and runs its tests. POSTHOUSE_E2E=all makes a
# missing tool a failure instead of a skipped test.
set -euo pipefail
cd "$(dirname "$0")"
retry() {
    local n
    for n in 1 2 3 4 5; do
        "$@" && return
        echo "try $n of 5 failed: $*" >&2
        sleep $((n * 5))
    done
    return 1
}
retry npm ci --ignore-scripts --no-audit --no-fund
rm -rf dist
npx tsc
node reference.mjs
git diff --exit-code -- ../../docs/sdk-typescript-reference.md || { echo "the reference is out of date: npm run reference" >&2; exit 1; }
node pack.mjs
npx tsc -p test
node --test --test-reporter=spec build/test/
