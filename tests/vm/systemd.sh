#!/bin/sh
# Goes on as systemd, which runs command.sh as a service. Of what Debian starts at boot there is only the journal: the
# rest would do again what guest.sh has done, and takes minutes.
#     systemd.sh CHECKOUT COLUMNS
set -e
rm -f /.dockerenv  # Else it takes itself to be in a container, where it does less.
units=/run/systemd/system generators=/run/systemd/system-generators
mkdir -p "$units" "$generators"
for generator in /lib/systemd/system-generators/*; do
    ln -s /dev/null "$generators/${generator##*/}"
done
for unit in /lib/systemd/system/sysinit.target.wants/* /etc/systemd/system/sysinit.target.wants/*; do
    case $unit in */systemd-journald.service) ;; *) ln -sf /dev/null "$units/${unit##*/}" ;; esac
done
cat > "$units/command.service" << END
[Unit]
DefaultDependencies=no
FailureAction=poweroff-force
[Service]
ExecStart=/bin/sh "$1/tests/vm/command.sh" "$1" $2
END
exec /lib/systemd/systemd --system --unit=command.service
