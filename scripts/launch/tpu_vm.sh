#!/usr/bin/env bash
# Makes a Cloud TPU VM (slice) and trains on all of its hosts; started again, it goes on where it saved.
#
#     NAME=jft ZONE=us-central2-b TYPE=v4-16 CONFIG=configs/resnet50_cifar10.py scripts/launch/tpu_vm.sh
#
# SHARE, such as 10.0.0.2:/share of a Filestore instance, is mounted on every host for runs and features. A slice of one
# host can do without it. SPOT=1 asks for a preemptible slice: when it is taken, start this again.
# Checked by bash -n and with a fake gcloud; not run on Google Cloud.
set -euo pipefail
: "${NAME:?set NAME to a name for the TPU}"
: "${ZONE:?set ZONE to a zone, such as us-central2-b}"
: "${TYPE:?set TYPE to an accelerator type, such as v4-16}"
: "${CONFIG:?set CONFIG to a config file}"
VERSION=${VERSION:-tpu-ubuntu2204-base}
REPOSITORY=${REPOSITORY:-$(git remote get-url origin)}
COMMIT=${COMMIT:-$(git rev-parse HEAD)}
tpu=(gcloud compute tpus tpu-vm)

# A slice that was preempted still has its name.
state=$("${tpu[@]}" describe "$NAME" --zone="$ZONE" --format="value(state)" 2>/dev/null || true)
if [[ $state == PREEMPTED || $state == TERMINATED ]]; then
    "${tpu[@]}" delete "$NAME" --zone="$ZONE" --quiet
    state=
fi
if [[ -z $state ]]; then
    "${tpu[@]}" create "$NAME" --zone="$ZONE" --accelerator-type="$TYPE" --version="$VERSION" ${SPOT:+--spot}
fi

on_all_hosts() {
    "${tpu[@]}" ssh "$NAME" --zone="$ZONE" --worker=all --command="$1"
}

on_all_hosts "set -e
    if [ -n '${SHARE:-}' ]; then
        sudo apt-get -qq install -y nfs-common
        sudo mkdir -p /share
        mountpoint -q /share || sudo mount '${SHARE:-}' /share
        sudo chmod a+rwx /share
    else
        sudo mkdir -p /share && sudo chmod a+rwx /share
    fi
    [ -d jft ] || git clone -q '$REPOSITORY' jft
    cd jft && git fetch -q && git checkout -q '$COMMIT'
    python3 -m venv ~/venv && ~/venv/bin/pip install -q -e '.[tpu]'"

workdir=/share/runs/$(basename "$CONFIG" .py)
on_host() {
    echo "cd jft && JFT_CACHE=/share/cache ~/venv/bin/python $* --distributed --workdir=$workdir"
}
on_all_hosts "$(on_host scripts/doctor.py)"
on_all_hosts "$(on_host scripts/train.py --config="$CONFIG" "$@")"
