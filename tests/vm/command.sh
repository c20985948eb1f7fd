#!/bin/sh
# Last act of the guest: runs /run/command, puts the files in /run/results and its exit status onto the disk as a tar
# archive, and powers off.
#     command.sh CHECKOUT COLUMNS
checkout=$1 columns=$2
exec < /dev/null > /dev/ttyS0 2>&1
cd "$checkout" || exit
mkdir /run/results
env -i HOME=/root LANG=C.UTF-8 TERM=dumb "COLUMNS=$columns" MESOCOSM_VM=1 \
    "PATH=$checkout/.venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" sh /run/command
echo "$?" > /run/results/status
tar -C /run/results -cf /dev/vda .
busybox poweroff -f
