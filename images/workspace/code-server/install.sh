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
cd node_modules
# Sources, intermediate results and what they are compiled with: half of what is there.
find . -type d \( -name obj.target -o -name .deps -o -path '*/node-addon-api' -o -path '*/node-gyp' \) -prune -exec rm -rf '{}' +
find . -type f \( -name '*.map' -o -name '*.o' -o -name '*.a' -o -name '*.md' -o -name '*.ts' -path '*/node_modules/*' \) -delete
