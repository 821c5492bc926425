#!/usr/bin/env bash
# Runs the image as a cluster would: configuration from a ConfigMap-like mount, requests, a swap of the ConfigMap,
# SIGTERM. Everything it makes is gone at its end.
#
#   run.sh BINARY
set -euo pipefail
binary=$(realpath "$1")
cd "$(dirname "$0")"

work=$(mktemp -d)
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
export CONTAINERS_STORAGE_CONF=$work/storage.conf
printf '[storage]\ndriver = "vfs"\nrunroot = "%s/run"\ngraphroot = "%s/graph"\n' "$work" "$work" > "$CONTAINERS_STORAGE_CONF"
container='' gateway='' upstream=''
finish() {
  status=$?
  for id in $gateway $upstream; do kill "$id" 2>/dev/null || true; done
  wait 2>/dev/null || true
  if [ "$status" -ne 0 ]; then cat "$work/log" >&2 || true; fi
  if [ -n "$container" ]; then buildah rm "$container" >/dev/null || true; fi
  rm -rf "$work"
  exit "$status"
}
trap finish EXIT

free_port() { python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
http=$(free_port) status=$(free_port) admin=$(free_port)

# Looks every 20 ms until the command holds, 30 s at most.
await() {
  for _ in $(seq 1500); do
    if "$@" 2>/dev/null; then return 0; fi
    sleep 0.02
  done
  echo "in vain: $*" >&2
  return 1
}

# Two upstreams that answer with their version.
mkfifo "$work/ports"
SLOW_MARK=$work/slow-arrived python3 "$PWD/upstreams.py" > "$work/ports" &
upstream=$!
read -r v1 v2 < "$work/ports"

# The seed's documents in a folder laid out as the kubelet lays out a ConfigMap; `stage N W1 W2` makes version N.
mount=$work/mount
mkdir -p "$mount"
stage() {
  local folder=$mount/..2026_$1
  mkdir "$folder"
  cp ../testdata/seed/gateway.yaml "$folder/"
  sed "s/weight: 80/weight: $2/; s/weight: 20/weight: $3/" ../testdata/seed/canary.yaml > "$folder/canary.yaml"
  sed "s/@V1@/$v1/; s/@V2@/$v2/" services.yaml > "$folder/services.yaml"
  ln -sfn "..2026_$1" "$mount/..data_tmp"
  mv -T "$mount/..data_tmp" "$mount/..data"
}
stage 1 80 20
for name in gateway.yaml canary.yaml services.yaml; do ln -s "..data/$name" "$mount/$name"; done
chmod -R a+rX "$mount" && chmod a+rx "$work"

./image.sh "$binary" portolan-test:latest
container=$(buildah from portolan-test:latest)
user=$(buildah inspect --format '{{.OCIv1.Config.User}}' "$container")
[ "$user" = 65532:65532 ] || { echo "the image runs as '$user'" >&2; exit 1; }

buildah run --isolation chroot --volume "$mount:/etc/portolan:ro" "$container" -- /portolan run --config /etc/portolan \
  --port-map "80=$http" --status-port "$status" --admin-address "127.0.0.1:$admin" --cache-dir /cache --drain-time 2s \
  --access-log /dev/stdout > "$work/log" 2>&1 &
gateway=$!
await curl -sf "http://127.0.0.1:$status/healthz/ready" -o /dev/null

ask() { curl -sf -H 'Host: app.example.com' "http://127.0.0.1:$http/"; }
counts=$(for _ in $(seq 200); do ask; done | sort | uniq -c)
echo "$counts"
[ "$(echo "$counts" | wc -l)" = 2 ] || { echo "both versions should answer" >&2; exit 1; }
echo "ok: requests pass, split over both versions"

process=$(pgrep -f "^/portolan run --config /etc/portolan --port-map 80=$http " | head -n 1)
uid=$(awk '/^Uid:/ { print $2 }' "/proc/$process/status")
[ "$uid" = 65532 ] || { echo "the process runs as $uid" >&2; exit 1; }
echo "ok: it runs as user $uid"

stage 2 0 100
only_v2() { [ "$(for _ in $(seq 30); do ask; done | sort -u)" = v2 ]; }
await only_v2
echo "ok: the swapped ConfigMap is served"

slow() { curl -sf -H 'Host: app.example.com' "http://127.0.0.1:$http/slow"; }
slow > "$work/slow" &
slow=$!
await test -e "$work/slow-arrived"
kill -TERM "$process"
wait "$slow"
grep -q v2 "$work/slow"
code=0
wait "$gateway" || code=$?
gateway=''
[ "$code" = 0 ] || { echo "exit code $code after SIGTERM" >&2; exit 1; }
echo "ok: SIGTERM let the request finish, exit code 0"
