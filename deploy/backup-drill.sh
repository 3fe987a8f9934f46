#!/bin/sh
# Backs a running (or closed) instance up, brings the backup back into an empty folder, and serves it there: what is
# proved is that the backup can be restored. Usage:
#   deploy/backup-drill.sh DATA KEEP [SECRET_COPY]
# DATA is the instance's folder, KEEP the folder where the backup stays. SECRET_COPY is the copy of `secret` that is kept
# apart; without it the instance's own is taken, which does not prove that the copy is right. Exit code 0: all held.
set -eu
umask 077
data=$1 keep=$2 secret=${3:-$1/secret}
leadline=${LEADLINE:-leadline}
practice=$(mktemp -d)
server=
finish() {
    if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; fi
    rm -rf "$practice"
}
trap finish EXIT
trap 'exit 130' INT TERM

archive=$keep/leadline-$(date -u +%Y%m%dT%H%M%SZ).tar.gz
$leadline db backup "$archive" --data "$data"
echo "1. Backed up into $archive."

cp "$secret" "$practice/secret"
# It looks at every digest and every rule of the ledger, and ends with 1 where one is broken.
$leadline db restore "$archive" --data "$practice"
echo "2. Restored, and the books add up."

# No variable of this machine, no engine and no port of the real one: the restored books, served.
cat > "$practice/leadline.toml" <<'TOML'
[[engines]]
name = "nobody"
kind = "openai"
url = "http://127.0.0.1:9/v1"
[[models]]
name = "practice"
engine = "nobody"
TOML
$leadline serve --data "$practice" --port 0 --json > "$practice/serving" &
server=$!
url=
for _ in $(seq 120); do
    url=$(sed -n 's/.*"event": *"serving".*"base_url": *"\([^"]*\)".*/\1/p' "$practice/serving")
    [ -n "$url" ] && break
    kill -0 "$server" 2>/dev/null || { echo "The restored instance did not start." >&2; exit 1; }
    sleep 0.5
done
[ -n "$url" ] || { echo "The restored instance did not start within a minute." >&2; exit 1; }
$leadline status --data "$practice" >/dev/null 2>&1 || [ $? -eq 3 ] || { echo "It does not answer." >&2; exit 1; }
echo "3. Served at $url: the drill is passed."
