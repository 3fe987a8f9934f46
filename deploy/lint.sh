#!/bin/sh
# Holds every file of this folder against its own tool. A tool that is not here is named, and nothing else: hadolint,
# yamllint and kubernetes-validate come with `make dev`, the others from Debian (caddy, prometheus, systemd, and
# docker-compose from 2 on).
set -u
cd "$(dirname "$0")"
PATH=${LEADLINE_BIN:-$PWD/../.venv/bin}:$PATH
failed=0

lint() {
    tool=$1 what=$2
    shift 2
    if ! command -v "$tool" >/dev/null 2>&1; then
        echo "not looked at: $what: $tool is not here"
    elif said=$("$@" 2>&1); then
        echo "good: $what"
    else
        echo "$said"
        echo "BAD: $what"
        failed=1
    fi
}

lint hadolint Dockerfile hadolint Dockerfile
lint yamllint "all YAML" yamllint --strict --config-file .yamllint.yaml .
lint kubernetes-validate kubernetes/ kubernetes-validate --strict --quiet kubernetes/leadline.yaml kubernetes/vllm.yaml
lint promtool "prometheus/prometheus.yml and alerts.yml" promtool check config prometheus/prometheus.yml
lint promtool "that alerts come when they should" promtool test rules prometheus/alerts_test.yml
lint caddy Caddyfile env LEADLINE_DOMAIN=models.company.example caddy validate --adapter caddyfile --config Caddyfile
for more in "" "--file compose.postgres.yaml"; do
    # shellcheck disable=SC2086 — two words, or none
    lint docker-compose "compose.yaml $more" env LEADLINE_DOMAIN=models.company.example VLLM_API_KEY=key \
        POSTGRES_PASSWORD=word docker-compose --file compose.yaml $more config --quiet
done

# The command of the unit has to be there for systemd to find the unit good.
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
sed "s,^ExecStart=/opt/leadline/bin/leadline,ExecStart=$(command -v true)," leadline.service > "$root/leadline.service"
lint systemd-analyze leadline.service systemd-analyze verify "$root/leadline.service"
lint systemd-analyze "what leadline.service may do" systemd-analyze security --offline=true --threshold=20 \
    "$root/leadline.service"
exit $failed
