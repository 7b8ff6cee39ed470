#!/bin/bash
# boot.sh ROOT: systemd as the init of ROOT, in namespaces of its own but for the network, until it is killed. It sees no
# device of this machine, and none of its settings can be changed from within. The first child is its init.
set -euo pipefail
group=/sys/fs/cgroup/unified
[[ -d $group ]] || group=/sys/fs/cgroup
group=$group/hourz-$$
mkdir "$group"
# Its init leaves groups of its own in this one.
leave() {
  [[ -z ${machine:-} ]] || { kill -KILL "$machine" && wait "$machine"; } 2>/dev/null || true
  echo $$ >"${group%/*}/cgroup.procs"
  for _ in {1..50}; do
    find "$group" -depth -type d -exec rmdir {} + 2>/dev/null && return
    sleep 0.1
  done
}
trap leave EXIT
echo $$ >"$group/cgroup.procs"
cd "$1"
inside() {
  set -euo pipefail
  mount --bind . "$PWD" && cd "$PWD"
  mount -t proc proc proc
  mount --bind proc/sys proc/sys && mount -o remount,ro,bind proc/sys
  mount -t sysfs -o ro sysfs sys
  mount -t cgroup2 cgroup2 sys/fs/cgroup
  mount -t tmpfs -o mode=755,nosuid tmpfs dev
  for name in null zero full random urandom tty; do
    touch "dev/$name" && mount --bind "/dev/$name" "dev/$name"
  done
  mkdir dev/shm dev/pts .old
  mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs dev/shm
  mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
  ln -s pts/ptmx dev/ptmx && ln -s /proc/self/fd dev/fd
  mount -t tmpfs -o mode=755 tmpfs run
  mount -t tmpfs -o mode=1777 tmpfs tmp
  hostname hourz
  pivot_root . .old && umount -l /.old && rmdir /.old
  local without=-sys_module,-sys_rawio,-sys_time,-sys_boot,-mknod
  exec env -i container=hourz PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    setpriv --inh-caps "$without" --bounding-set "$without" /sbin/init --show-status=false
}
export -f inside
unshare --mount --pid --uts --ipc --cgroup --fork --kill-child --propagation private bash -c inside </dev/null &
machine=$!
trap 'exit 0' TERM INT
wait "$machine"
