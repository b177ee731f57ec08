#!/bin/sh
# mmdebstrap runs this once, when every package is installed and before the archive is written.
# usage: customize.sh ROOT FILES_DIR [CA_DIR]
set -eu
root=$1
files=$2
ca_dir=${3:-}

# cp would carry the checkout's owner and umask over; sudo refuses a file that a group may write.
(cd "$files/rootfs" && find . -type f) | while read -r path; do
    install -D -o root -g root -m 0644 "$files/rootfs/$path" "$root/$path"
done
chmod 0440 "$root/etc/sudoers.d/90-target-host"
# Debian 13 makes this link at boot whatever stands there; Debian 12's login reads the file it names.
ln -sf ../locale.conf "$root/etc/default/locale"

# The cloud images' account. '*' is a password nobody has; '!' would make sshd without PAM call it locked.
chroot "$root" useradd --uid 1000 --create-home --shell /bin/bash --password '*' --groups adm,sudo admin
install -d -o 1000 -g 1000 -m 0700 "$root/home/admin/.ssh"

# openssh-server makes host keys when it is installed: an image must not carry any.
rm -f "$root"/etc/ssh/ssh_host_*
# mmdebstrap leaves the controller's own apt and dpkg options here; each host gets its own when it is made.
rm -f "$root/etc/apt/apt.conf.d/99mmdebstrap" "$root/etc/dpkg/dpkg.cfg.d/99mmdebstrap"

if [ -n "$ca_dir" ]; then
    install -m 0644 "$ca_dir"/*.crt "$root/usr/local/share/ca-certificates/"
    chroot "$root" update-ca-certificates
fi
