#!/bin/sh
# Asked by packages before they start, stop or restart a service: invoke-rc.d(8), deb-systemd-invoke(1p). 101 means: do not.
# An upgrade of nginx would restart it first (nginx-common) and replace the running program next (nginx). The first ends
# every download and refuses clients for seconds; the second, which is enough, loses nothing.
[ "$1 $2" = "nginx.service restart" ] && exit 101
exit 104
