"""Both ends of shipping in one container, by the files rendered for the host that takes in."""

from __future__ import annotations

from rendering import ROOT, Host
from sandbox import Container
from watching import SHIPPING

# What the role would have made: a key and a certificate of each end, and who trusts whom. On the loopback:
# there is no other network.
PREPARE = r"""
set -e
certify() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3 -subj "/CN=$1" \
        -addext subjectAltName=IP:$2 -addext basicConstraints=critical,CA:FALSE \
        -addext keyUsage=critical,digitalSignature -keyout "/root/$1.key" -out "/root/$1.crt" 2>/dev/null
}
certify receiver 127.0.0.1
certify shipper 127.0.0.2
certify stranger 127.0.0.2
certify imposter 127.0.0.1
certify elsewhere 127.0.0.9
mkdir -p /etc/journal-tls /run/credentials/journal-tls.service /var/log/journal/remote /root/source
cp /root/shipper.crt "$(sed -n 's/^CAfile = //p' /rendered/journal-tls/stunnel.conf)"
cp /rendered/systemd/journal-remote.conf /etc/systemd/
"""
# Begins to listen as one end, and to take in.
RECEIVE = r"""
set -e
cp "/root/$0.crt" /etc/journal-tls/own.crt
cp "/root/$0.key" /run/credentials/journal-tls.service/own.key
sed 's/^accept = .*:/accept = 127.0.0.1:/' /rendered/journal-tls/stunnel.conf > /root/stunnel.conf
stunnel /root/stunnel.conf > /root/stunnel.log 2>&1 &
echo $! > /root/pids
unit=/rendered/systemd/system/systemd-journal-remote.service.d/50-journal.conf
command=$(sed -n 's/^ExecStart=\(..*\)/\1/p' $unit)
systemd-socket-activate --listen=/run/journal-remote.sock $command > /root/remote.log 2>&1 &
echo $! >> /root/pids
for i in $(seq 50); do
    grep -q 'Configuration successful' /root/stunnel.log && test -S /run/journal-remote.sock && exit 0
    sleep 0.1
done
exit 1
"""
STOP = "kill $(cat /root/pids); sleep 0.5; rm -f /run/journal-remote.sock"
WRITE = r"""
printf '__REALTIME_TIMESTAMP=%s\n__MONOTONIC_TIMESTAMP=1\n_BOOT_ID=%032d\n_HOSTNAME=www1\nMESSAGE=%s\n\n' \
    $(date +%s%6N) 1 "$0" | /lib/systemd/systemd-journal-remote --output="/root/source/$0.journal" -
"""
SHIP = (
    "timeout 20 /lib/systemd/systemd-journal-upload --follow=no --file=/root/source/$0.journal"
    " --url=https://127.0.0.1:19532 --key=/root/$1.key --cert=/root/$1.crt --trust=/root/$2.crt"
)
# Writes lines into the journal of the host that ships, as they come.
JOURNAL = r"""
systemd-machine-id-setup 2>/dev/null
folder=/var/log/journal/$(cat /etc/machine-id)
mkdir -p "$folder" /var/lib/systemd/journal-upload
mkfifo /root/lines
/lib/systemd/systemd-journal-remote --output="$folder/system.journal" - < /root/lines > /dev/null 2>&1 &
exec 9> /root/lines
cat > /etc/systemd/journal-upload.conf << END
[Upload]
URL=https://127.0.0.1:19532
ServerKeyFile=/root/shipper.key
ServerCertificateFile=/root/shipper.crt
TrustedCertificateFile=/root/receiver.crt
END
say() {
    now=$(date +%s%6N)
    printf '__REALTIME_TIMESTAMP=%s\n__MONOTONIC_TIMESTAMP=%s\n_BOOT_ID=%032d\n' $now $now 1 >&9
    printf '_HOSTNAME=www1\nMESSAGE=%s\n\n' "$1" >&9
    sleep 0.3
}
export STATE_DIRECTORY=/var/lib/systemd/journal-upload
program=$0
ship() { sh $program >> /root/upload.log 2>&1 & pid=$!; }
# Until a line is there, and the answer to it was noted.
arrived() {
    for i in $(seq 100); do
        journalctl --directory=/var/log/journal/remote --quiet --output=cat | grep -qx "$1" && break
        sleep 0.1
    done
    sleep 1
}
say one; say two; ship; arrived two; say three; arrived three; kill -KILL $pid
say four; ship; arrived four; kill -KILL $pid
say five; ship; arrived five; say six; arrived six; kill -TERM $pid
rm /etc/systemd/journal-upload.conf
"""
ONCE = ["one", "two", "three", "four", "five", "six"]
RECEIVED = "journalctl --directory=/var/log/journal/remote --quiet --output=cat _HOSTNAME=www1"


class Ends(Container):
    """The two ends."""

    def __init__(self, host: Host):
        """Describe them by the host that takes in."""
        super().__init__(host.debian)
        self.host = host

    def __enter__(self) -> Ends:
        volumes = [
            f"--volume={self.host.root}/etc/{name}:/rendered/{name}:ro" for name in ("journal-tls", "systemd")
        ]
        volumes.append(f"--volume={ROOT}/roles/journal/files:/program:ro")
        self.begin((*SHIPPING, "openssl"), volumes, "sh", "-c", PREPARE)
        return self

    def receive(self, name: str = "receiver") -> None:
        """Listen by a certificate, whose peers are as they were."""
        done = self.run("sh", "-c", RECEIVE, name)
        assert done.returncode == 0, done.stdout + done.stderr + self.log()

    def stop(self) -> None:
        """End what `receive` began."""
        self.run("sh", "-c", STOP)

    def ship(self, line: str, name: str = "shipper", trusting: str = "receiver"):
        """Ship one line by a certificate and return how that went."""
        written = self.run("sh", "-c", WRITE, line)
        assert written.returncode == 0, written.stderr
        return self.run("sh", "-c", SHIP, line, name, trusting)

    def received(self) -> list[str]:
        """Return what was taken in."""
        return self.run("sh", "-c", RECEIVED).stdout.splitlines()

    def log(self) -> str:
        """Return what the guard says."""
        return self.run("cat", "/root/stunnel.log").stdout

    def said(self) -> str:
        """Return what the end that ships says."""
        return self.run("cat", "/root/upload.log").stdout
