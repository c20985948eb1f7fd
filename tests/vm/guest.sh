#!/bin/sh
# First process of the guest, at the host's files: does what an init system does, and goes on with command.sh or, if
# INIT is systemd, as that.
#     guest.sh CHECKOUT MODULES COLUMNS INIT COMMAND
set -e
checkout=$1 modules=$2 columns=$3 init=$4 command=$5
export PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# in_memory DIRECTORY MODE: overlayfs, which the root is, cannot be the upper layer of another; tmpfs can.
# A checkout below the directory stays visible.
in_memory() {
    mount -t tmpfs -o "mode=$2" tmpfs /mnt
    case $checkout in "$1"/*)
        mkdir -p "/mnt${checkout#"$1"}"
        mount --bind "$checkout" "/mnt${checkout#"$1"}" ;;
    esac
    mount --no-mtab --move /mnt "$1"
}

mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mkdir -p /dev/shm /dev/pts /dev/mqueue
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs /dev/shm
mount -t devpts -o nosuid,noexec,mode=620,ptmxmode=666 devpts /dev/pts
mount -t mqueue mqueue /dev/mqueue
ln -s /proc/self/fd /dev/fd
ln -s /proc/self/fd/0 /dev/stdin
ln -s /proc/self/fd/1 /dev/stdout
ln -s /proc/self/fd/2 /dev/stderr
# Until here the console was that of the initial file system, which is gone.
exec < /dev/null > /dev/ttyS0 2>&1
in_memory /run 755
in_memory /tmp 1777
in_memory /var/tmp 1777

mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
    echo "+$controller" > /sys/fs/cgroup/cgroup.subtree_control
done

# Others are loaded by the kernel itself when they are first used.
mkdir -p /lib/modules
mount --bind "$modules" /lib/modules
modprobe --all loop xfs quota_v2 veth bridge cls_cgroup

echo guest > /proc/sys/kernel/hostname
echo "127.0.1.1 guest" >> /etc/hosts
busybox ip link set lo up
mount --make-rshared /

printf '%s\n' "$command" > /run/command
case $init in
    systemd) exec sh "$checkout/tests/vm/systemd.sh" "$checkout" "$columns" ;;
    *) exec sh "$checkout/tests/vm/command.sh" "$checkout" "$columns" ;;
esac
