#!/usr/bin/env bash
# Builds the last stage of the Dockerfile from a static binary that is already built, with buildah: the stage before
# it needs a base image, and a machine without a registry has none.
#
#   image.sh BINARY IMAGE
set -euo pipefail
binary=$1 image=$2
cd "$(dirname "$0")/../.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/out/cache" "$work/out/tmp"
cp "$binary" "$work/out/portolan"
cp /etc/ssl/certs/ca-certificates.crt "$work/out/"
sed -n '/^FROM scratch/,$p' Dockerfile > "$work/Dockerfile"
BUILDAH_ISOLATION=chroot \
  buildah build --quiet --build-context "build=$work" --tag "$image" --file "$work/Dockerfile" "$work" >&2
echo "$image"
