#!/bin/busybox sh
# First process of the guest, in its initial file system: makes the host's files its root, with a writable layer in
# memory, and goes on with guest.sh there. A failure ends it, which panics the kernel and is seen on the host.
set -e
/bin/busybox --install -s /bin
export PATH=/bin
. /settings

mount -t devtmpfs devtmpfs /dev
for module in /modules/*; do
    insmod "$module"
done

mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro host /host
mount -t tmpfs -o mode=755 memory /memory
mkdir /memory/upper /memory/work
mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work root /root
mount --move /dev /root/dev

exec switch_root /root /bin/sh "$checkout/tests/vm/guest.sh" "$checkout" "$modules" "$columns" "$init" "$command"
