#!/bin/sh
# Installs code-server and the Node.js on PATH into FOLDER, and leaves out what only its build needs.
# usage: install.sh FOLDER, beside package.json and package-lock.json
set -eu
cp "$(dirname "$0")/package.json" "$(dirname "$0")/package-lock.json" "$1/"
cd "$1"
# Its post-install step installs VS Code's packages by the lock file inside the package.
npm ci --omit=dev --no-audit --no-fund
mkdir bin
cp "$(command -v node)" bin/node

# Half of what is there is of no use in a workspace: what it was compiled from, programs of other systems, GitHub's and
# Microsoft's AI, which our chat takes the place of, and tests, with private keys that scanners report.
cd node_modules
case $(uname -m) in x86_64) machine=x64 ;; *) machine=arm64 ;; esac
find . -type d \( -name obj.target -o -path '*/build/Release/obj' -o -name .deps -o -name node-addon-api -o -name node-gyp \) \
    -prune -exec rm -rf '{}' +
find . -type d \( -path '*/prebuilds/*' -o -path '*/ripgrep-universal/bin/*' \) ! -name "linux-$machine" -prune \
    -exec rm -rf '{}' +
find . -type d -name test -exec test -f '{}/../package.json' ';' -prune -exec rm -rf '{}' +
# The last of these say where it was compiled.
find . -type f \( -name '*.map' -o -name '*.o' -o -name '*.a' -o -name '*.exe' -o -name '*.dll' -o -name '*.pdb' \
    -o -name '*.gypi' -o -path '*/build/Makefile' -o -path '*/build/*.mk' \) -delete
cd code-server/lib/vscode
rm -rf node_modules/@github/copilot-sdk-linux-* node_modules/@microsoft/mxc-sdk/bin extensions/copilot
