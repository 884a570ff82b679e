#!/usr/bin/env bash
# Builds what the virtual machines of tests boot (Debian's kernel, a small initramfs, a disk with systemd, DRBD and NFS), once,
# and prints its folder. Kept outside the tree under a hash of this file. Needs root, mmdebstrap, busybox, cpio, zstd, mke2fs.
set -euo pipefail
cache="${MAILSWITCH_LAB:-/var/cache/mailswitch-lab}"
image="$cache/vm-$(sha256sum "$0" | cut -c1-16)"
packages=systemd,systemd-sysv,dbus,polkitd,iproute2,nftables,procps,kmod,e2fsprogs,xfsprogs,libgcc-s1,drbd-utils,nfs-common,nfs-kernel-server

mkdir -p "$cache"
exec 9>"$cache/vm-lock"
flock 9
[ ! -d "$image" ] || { echo "$image"; exit 0; }
# shellcheck disable=SC1091 # Debian's own
. /etc/os-release
suite="${VERSION_CODENAME:-bookworm}"
mirror="${MIRROR:-$(awk '/^URIs:/ { print $2; exit }' /etc/apt/sources.list.d/debian.sources 2>/dev/null || true)}"
work="$image.part"
rm -rf "$work"
mkdir -p "$work/boot"
root="$work/root"
mmdebstrap --quiet --variant=minbase --mode=root --include="$packages" --aptopt='Apt::Install-Recommends "false"' \
    --dpkgopt='path-exclude=/usr/share/{doc,man,locale}/*' "$suite" "$root" "${mirror:-http://deb.debian.org/debian}" >&2

# The kernel, without what installing it would do; of its modules those that a machine without hardware can use.
kernel="$(apt-cache depends linux-image-amd64 | awk '/Depends: linux-image/ { print $2; exit }')"
(cd "$work/boot" && apt-get -qq -o APT::Sandbox::User=root download "$kernel" >&2 && dpkg -x "$kernel"_*.deb unpacked)
version="$(ls "$work/boot/unpacked/lib/modules")"
from="$work/boot/unpacked/lib/modules/$version" to="$root/lib/modules/$version"
cp "$work/boot/unpacked/boot/vmlinuz-$version" "$work/vmlinuz"
for folder in fs net lib crypto drivers/block drivers/virtio drivers/md drivers/watchdog drivers/char; do
    mkdir -p "$to/kernel/$folder"
    cp -r "$from/kernel/$folder/." "$to/kernel/$folder/"
done
mkdir -p "$to/kernel/drivers/net"
cp "$from"/kernel/drivers/net/{virtio_net,net_failover}.ko "$to/kernel/drivers/net/"
cp "$from"/modules.{order,builtin,builtin.modinfo} "$to/"
chroot "$root" depmod "$version"

# A machine says its name and address on the kernel's command line.
cat >"$root/usr/local/sbin/lab-net" <<'E'
#!/bin/bash
for word in $(cat /proc/cmdline); do case "$word" in lab.address=*) address="${word#*=}" ;; lab.name=*) name="${word#*=}" ;; esac; done
hostname "$name"
echo "$name" >/etc/hostname
ip link set lo up
device="$(ls /sys/class/net | grep -v '^lo$' | head -1)"
ip addr replace "$address/24" dev "$device"
ip link set "$device" up
E
# One line in: a command. Out: what it says, and its exit code behind a zero byte.
cat >"$root/usr/local/sbin/lab-agent" <<'E'
#!/bin/bash
IFS= read -r line
bash -c "$(base64 -d <<<"$line")" </dev/null 2>&1
printf '\0%d\n' $?
E
chmod 755 "$root"/usr/local/sbin/lab-*
units="$root/etc/systemd/system"
cat >"$units/lab-net.service" <<'E'
[Unit]
DefaultDependencies=no
After=systemd-remount-fs.service systemd-udevd.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/lab-net
[Install]
WantedBy=sysinit.target
E
cat >"$units/lab-agent.socket" <<'E'
[Unit]
DefaultDependencies=no
After=lab-net.service
[Socket]
ListenStream=9000
Accept=yes
MaxConnections=64
E
cat >"$units/lab-agent@.service" <<'E'
[Unit]
DefaultDependencies=no
CollectMode=inactive-or-failed
[Service]
ExecStart=-/usr/local/sbin/lab-agent
StandardInput=socket
StandardOutput=socket
StandardError=null
KillMode=process
E
# A machine-id that is there already keeps systemd from enabling every unit at the first boot.
echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"
echo "/dev/vda / ext4 rw,noatime 0 1" >"$root/etc/fstab"
rm -f "$root/etc/hostname"
find "$units" -path '*.wants/*' -delete
mkdir -p "$units/sysinit.target.wants" "$units/sockets.target.wants"
ln -sf ../lab-net.service "$units/sysinit.target.wants/"
ln -sf ../lab-agent.socket "$units/sockets.target.wants/"
for unit in systemd-logind.service systemd-update-utmp-runlevel.service systemd-networkd.service systemd-networkd.socket \
    systemd-networkd-wait-online.service serial-getty@ttyS0.service getty@tty1.service systemd-binfmt.service \
    systemd-journal-flush.service drbd.service; do
    ln -sf /dev/null "$units/$unit"
done

# An initramfs that mounts the disk and goes there.
init="$work/init"
mkdir -p "$init"/{bin,dev,proc,sys,new,m}
cp "$(command -v busybox)" "$init/bin/busybox"
number=10
while read -r module; do
    cp "$root$module" "$init/m/$number.ko"
    number=$((number + 1))
done < <(for module in virtio_pci virtio_blk virtio_net ext4 virtio_rng; do
    chroot "$root" modprobe -S "$version" --show-depends "$module" 2>/dev/null | awk '$1 == "insmod" { print $2 }'
done | awk '!seen[$0]++')
cat >"$init/init" <<'E'
#!/bin/busybox sh
B=/bin/busybox
$B mount -t devtmpfs d /dev; $B mount -t proc p /proc; $B mount -t sysfs s /sys
for module in /m/*.ko; do $B insmod $module 2>/dev/null; done
tries=0
until $B mount -t ext4 -o noatime /dev/vda /new 2>/dev/null; do
    tries=$((tries + 1)); [ $tries = 50 ] && $B poweroff -f; $B sleep 0.1
done
$B mount --move /dev /new/dev; $B mount --move /proc /new/proc; $B mount --move /sys /new/sys
exec $B switch_root /new /lib/systemd/systemd
E
chmod 755 "$init/init"
(cd "$init" && find . | cpio --quiet -o -H newc) | zstd -q -3 >"$work/init.cpio.zst"
truncate -s 1400M "$work/base.img"
mke2fs -q -t ext4 -J size=16 -d "$root" "$work/base.img"
rm -rf "${work:?}"/{root,boot,init}
mv "$work" "$image"
echo "$image"
