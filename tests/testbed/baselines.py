"""The controls of dev-sec's linux, ssh and nginx baselines, as this project holds them.

One source for two readers: tests/target/test_baselines.py asks a host each of them, and docs/baselines.md is
written from them. The ids are dev-sec's (https://github.com/dev-sec, controls/*.rb); what they ask is said
anew here, of the running daemon or kernel where that can be asked. A control with a `note` and a check is
held in another way than dev-sec's; one with a note and no check is waived, and the note is why.

python -m testbed.baselines --write  # with PYTHONPATH=tests: writes docs/baselines.md
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs/baselines.md"
HEAD = """\
# Security baselines

The controls of dev-sec's linux, ssh and nginx baselines, by their ids. `holds`: a test asks every host, and
it is so. `otherwise`: a test asks for what stands in its place. `waived`: not asked for, and why.
Settings of the machine's kernel cannot be set from within a container: there, the test looks at what the role
`base` declares for a machine.

| control | title | state | why, where it is not dev-sec's word |
|---|---|---|---|
"""
FOOT = """
<!-- Written by `PYTHONPATH=tests python -m testbed.baselines --write`; change it in that module. -->
"""


class Look:
    """What a host says of itself, each asked once."""

    def __init__(self, host: Any) -> None:
        self.host = host

    def run(self, command: str) -> str:
        """Return what a shell command printed, whatever its status."""
        return self.host.run(command).stdout.strip()

    def is_mode(self, path: str, wanted: str) -> bool:
        """Say whether a path has this owner, group and mode, as `root root 644`."""
        return self.run(f"stat --format='%U %G %a' {path}") == wanted

    def is_absent(self, *packages: str) -> bool:
        """Say whether none of these packages is installed."""
        shown = self.run(f"dpkg-query --show --showformat='${{Status}}\\n' {' '.join(packages)} 2>/dev/null")
        return "install ok installed" not in shown

    @cached_property
    def sysctls(self) -> dict[str, str]:
        """The kernel's settings, on a container's host those that the role would set on a machine."""
        shown = self.run("sysctl --all 2>/dev/null").splitlines()
        running = dict(re.split(r"\s*=\s*", line, maxsplit=1) for line in shown if "=" in line)
        if self.run("systemd-detect-virt --container") == "none":
            return running
        defaults = yaml.safe_load((ROOT / "roles/base/defaults/main.yml").read_text())
        return running | defaults["base_sysctl_machine"]

    @cached_property
    def sshd(self) -> dict[str, str]:
        """sshd's own words about its settings."""
        lines = self.run("sshd -T").splitlines()
        return {name: value for name, _, value in (line.partition(" ") for line in lines)}

    @cached_property
    def ssh(self) -> dict[str, str]:
        """The client's own words about its settings."""
        lines = self.run("ssh -G -F /etc/ssh/ssh_config example.org").splitlines()
        return {name: value for name, _, value in (line.partition(" ") for line in lines)}

    @cached_property
    def nginx(self) -> str:
        """All of nginx's configuration, as it reads it."""
        return self.run("nginx -T 2>/dev/null")

    def nginx_says(self, directive: str) -> list[str]:
        """Return every value a directive of nginx has anywhere."""
        return re.findall(rf"^\s*{directive}\s+(.*?);", self.nginx, re.MULTILINE)


@dataclass(frozen=True)
class Control:
    """One control: what is asked of a host, or why it is not."""

    id: str
    title: str
    check: Callable[[Look], object] | None = None
    note: str = ""

    @property
    def state(self) -> str:
        """The word for it in the document."""
        return "waived" if self.check is None else "otherwise" if self.note else "holds"


def kernel(**wanted: str) -> Callable[[Look], bool]:
    """Return a check of kernel settings; two underscores stand for a dot."""
    names = {name.replace("__", "."): value for name, value in wanted.items()}
    return lambda look: all(look.sysctls.get(name) == value for name, value in names.items())


def interfaces(family: str, setting: str, value: str) -> Callable[[Look], bool]:
    """Return a check of a setting of `all` interfaces, and of those to come."""
    names = [f"net.{family}.conf.{which}.{setting}" for which in ("all", "default")]
    return lambda look: all(look.sysctls[name] == value for name in names)


def sshd(setting: str, *values: str) -> Callable[[Look], bool]:
    """Return a check that sshd says one of these values."""
    return lambda look: look.sshd.get(setting) in values


def ssh(setting: str, *values: str) -> Callable[[Look], bool]:
    """Return a check that the client says one of these values."""
    return lambda look: look.ssh.get(setting) in values


def only(setting: str, pattern: str) -> Callable[[Look], bool]:
    """Return a check that every algorithm sshd offers is of these."""
    return lambda look: all(re.fullmatch(pattern, name) for name in look.sshd[setting].split(","))


def absent(*packages: str) -> Callable[[Look], bool]:
    return lambda look: look.is_absent(*packages)


def nothing(command: str) -> Callable[[Look], bool]:
    """Return a check that a command prints nothing."""
    return lambda look: look.run(command) == ""


def seconds(text: str) -> int:
    return int(text.split()[0].removesuffix("s"))


SETUID_UNWANTED = (
    "rcp|rlogin|rsh|netreport|usernetctl|userisdnctl|pppd|lockfile|mail-lock|mail-unlock|dotlockfile"
)
SETUID_UNWANTED += "|mail-touchlock|arping|uuidd|mtr|camel-lock-helper|pt_chown|dmcrypt-get-device|cons.saver"
FIND_SETUID = "find / -xdev -type f -perm /6000 -printf '%f\\n' 2>/dev/null"
DOUBLED = "cut -d: -f3 /etc/passwd | sort | uniq -d; cut -d: -f3 /etc/group | sort | uniq -d"
# sshd's first words to anybody; Debian 12's does not say this setting of itself.
GREETING = "bash -c 'exec 3<>/dev/tcp/127.0.0.1/22; read -r -t5 -u3 line; echo $line'"
IPV6 = (
    "Providers hand out IPv6 addresses and routes by router advertisements: without them such a host has none"
)
NO_CLIENT = "Hosts log in nowhere; what a person types there is that person's"
GONE = "OpenSSH took the setting out years ago"

CONTROLS = [
    Control(
        "os-01", "Trusted hosts login", nothing("find / -xdev \\( -name .rhosts -o -name hosts.equiv \\)")
    ),
    Control(
        "os-02",
        "Owner and permissions of /etc/shadow",
        lambda look: look.is_mode("/etc/shadow", "root shadow 640"),
    ),
    Control(
        "os-03",
        "Owner and permissions of /etc/passwd",
        lambda look: look.is_mode("/etc/passwd", "root root 644"),
    ),
    Control(
        "os-04",
        "Dot in PATH variable",
        lambda look: not {"", "."} & set(look.run("bash -lc 'echo $PATH'").split(":")),
    ),
    Control(
        "os-05",
        "login.defs",
        lambda look: (
            look.is_mode("/etc/login.defs", "root root 644")
            and look.run("awk -F: '$2 ~ /^[$]/' /etc/shadow") == ""
        ),
        "No account has a password that could grow old: people have keys. The rest is Debian's",
    ),
    Control("os-05b", "login.defs, Red Hat's", note="Red Hat's own"),
    Control(
        "os-06",
        "SUID and SGID programs",
        lambda look: (
            not re.search(rf"^({SETUID_UNWANTED})$", look.run(FIND_SETUID), re.MULTILINE)
            and look.ssh["enablesshkeysign"] == "no"
        ),
        "ssh-keysign comes with OpenSSH's client, and does nothing while EnableSSHKeysign is no, which it is",
    ),
    Control("os-07", "Unique uid and gid", nothing(DOUBLED)),
    Control(
        "os-08",
        "Entropy",
        lambda look: int(look.run("cat /proc/sys/kernel/random/entropy_avail")) >= 256,
        "Since Linux 5.18 a full pool says 256; dev-sec's 1000 is of older kernels",
    ),
    Control(
        "os-09", "No .rhosts and .netrc", nothing("find / -xdev \\( -iname .rhosts -o -iname .netrc \\)")
    ),
    Control(
        "os-10", "Unused file systems", note="Nobody but root mounts any, and root loads modules as well"
    ),
    Control("os-11", "/var/log is root's", lambda look: look.run("stat --format=%U /var/log") == "root"),
    Control("package-01", "No inetd or xinetd", absent("inetd", "openbsd-inetd", "xinetd")),
    Control("package-02", "No telnet server", absent("telnetd", "inetutils-telnetd")),
    Control("package-03", "No rsh server", absent("rsh-server", "rsh-redone-server")),
    Control("package-05", "No NIS server", absent("ypserv", "nis")),
    Control("package-06", "No tftp server", absent("tftpd", "tftpd-hpa", "atftpd")),
    Control(
        "package-07",
        "Syslog server",
        lambda look: look.run("systemctl is-active systemd-journald") == "active",
        "journald keeps what syslog is given, over reboots and within limits",
    ),
    Control(
        "package-08",
        "auditd",
        note="Left to those who have somebody to read it; sudo and sshd tell the journal",
    ),
    Control(
        "package-09",
        "Packages that lynis suggests",
        lambda look: not look.is_absent("needrestart"),
        "needrestart is there; the others help people at a terminal, or slow down those who guess passwords",
    ),
    Control("package-10", "No prelink", absent("prelink")),
    Control("sysctl-01", "IPv4 forwarding", kernel(net__ipv4__ip_forward="0")),
    Control("sysctl-02", "Reverse path filtering", interfaces("ipv4", "rp_filter", "1")),
    Control("sysctl-03", "Bogus ICMP errors", kernel(net__ipv4__icmp_ignore_bogus_error_responses="1")),
    Control("sysctl-04", "ICMP echo to broadcasts", kernel(net__ipv4__icmp_echo_ignore_broadcasts="1")),
    Control("sysctl-05", "ICMP rate limit", kernel(net__ipv4__icmp_ratelimit="100")),
    Control("sysctl-06", "ICMP rate mask", kernel(net__ipv4__icmp_ratemask="88089")),
    Control(
        "sysctl-07",
        "TCP timestamps",
        kernel(net__ipv4__tcp_timestamps="1"),
        "On: they guard fast connections against old packets, and tell nobody the uptime any more",
    ),
    Control("sysctl-08", "ARP ignore", interfaces("ipv4", "arp_ignore", "1")),
    Control("sysctl-09", "ARP announce", interfaces("ipv4", "arp_announce", "2")),
    Control("sysctl-10", "TCP RFC 1337", kernel(net__ipv4__tcp_rfc1337="1")),
    Control("sysctl-11", "SYN floods", kernel(net__ipv4__tcp_syncookies="1")),
    Control("sysctl-12", "Shared media", interfaces("ipv4", "shared_media", "1")),
    Control(
        "sysctl-13",
        "Source routing",
        lambda look: all(interfaces(family, "accept_source_route", "0")(look) for family in ("ipv4", "ipv6")),
    ),
    Control("sysctl-14", "IPv4 redirects", interfaces("ipv4", "accept_redirects", "0")),
    Control("sysctl-15", "Secure redirects", interfaces("ipv4", "secure_redirects", "0")),
    Control("sysctl-16", "Sending of redirects", interfaces("ipv4", "send_redirects", "0")),
    Control("sysctl-17", "Log martians", interfaces("ipv4", "log_martians", "1")),
    Control("sysctl-19", "IPv6 forwarding", kernel(net__ipv6__conf__all__forwarding="0")),
    Control("sysctl-20", "IPv6 redirects", interfaces("ipv6", "accept_redirects", "0")),
    Control("sysctl-21", "IPv6 router solicitations", note=IPV6),
    Control("sysctl-22", "IPv6 router preference", note=IPV6),
    Control("sysctl-23", "IPv6 prefix information", note=IPV6),
    Control("sysctl-24", "IPv6 default router", note=IPV6),
    Control("sysctl-25", "IPv6 router advertisements", note=IPV6),
    Control("sysctl-26", "IPv6 autoconfiguration", note=IPV6),
    Control("sysctl-27", "IPv6 neighbour solicitations", note="Two hosts of one address would not find out"),
    Control("sysctl-28", "IPv6 addresses an interface", note=IPV6),
    Control(
        "sysctl-29",
        "Kernel modules may be loaded",
        note="dev-sec asks for 0, which is what every kernel says",
    ),
    Control("sysctl-30", "Magic SysRq", kernel(kernel__sysrq="0")),
    Control("sysctl-31a", "Core dumps of setuid programs", kernel(fs__suid_dumpable="0")),
    Control("sysctl-31b", "Core dumps' path", note="Asked where setuid programs dump core: here they do not"),
    Control("sysctl-32", "Random addresses", kernel(kernel__randomize_va_space="2")),
    Control(
        "sysctl-33",
        "NX flag",
        lambda look: (
            re.search(r"^flags\s*:.*\bnx\b", look.run("cat /proc/cpuinfo"), re.MULTILINE)
            or look.run("uname -m") != "x86_64"
        ),
    ),
    Control(
        "sysctl-34",
        "Links, fifos and files of strangers",
        kernel(
            fs__protected_fifos="2",
            fs__protected_hardlinks="1",
            fs__protected_regular="2",
            fs__protected_symlinks="1",
        ),
    ),
    Control("ssh-01", "ssh_config", lambda look: look.is_mode("/etc/ssh/ssh_config", "root root 644")),
    Control("ssh-02", "AddressFamily", ssh("addressfamily", "any", "inet", "inet6")),
    Control("ssh-03", "Port", ssh("port", "22")),
    Control("ssh-04", "Protocol 2", note=GONE),
    Control("ssh-05", "BatchMode", ssh("batchmode", "no")),
    Control(
        "ssh-06", "CheckHostIP", note="OpenSSH itself turned it off: it guards nothing that host keys do not"
    ),
    Control("ssh-07", "StrictHostKeyChecking", ssh("stricthostkeychecking", "ask", "true", "yes")),
    Control("ssh-08", "Ciphers", note=NO_CLIENT),
    Control("ssh-09", "Key exchanges", note=NO_CLIENT),
    Control("ssh-10", "MACs", note=NO_CLIENT),
    Control("ssh-11", "ForwardAgent", ssh("forwardagent", "no")),
    Control("ssh-12", "ForwardX11", ssh("forwardx11", "no")),
    Control("ssh-13", "HostbasedAuthentication", ssh("hostbasedauthentication", "no")),
    Control("ssh-16", "PasswordAuthentication", note=NO_CLIENT),
    Control("ssh-17", "GSSAPIAuthentication", note=NO_CLIENT),
    Control("ssh-18", "GSSAPIDelegateCredentials", ssh("gssapidelegatecredentials", "no")),
    Control("ssh-19", "Tunnel", ssh("tunnel", "no", "false")),
    Control("ssh-20", "PermitLocalCommand", ssh("permitlocalcommand", "no")),
    Control("ssh-21", "UseRoaming", note=GONE),
    Control(
        "sshd-01",
        "Ciphers",
        only("ciphers", r"chacha20-poly1305@openssh\.com|aes(256|128)-gcm@openssh\.com|aes(256|192|128)-ctr"),
    ),
    Control(
        "sshd-02",
        "Key exchanges",
        only(
            "kexalgorithms",
            r"mlkem768x25519-sha256|sntrup761x25519-sha512(@openssh\.com)?|curve25519-sha256(@libssh\.org)?",
        ),
        "Newer ones first, and none with groups of /etc/ssh/moduli",
    ),
    Control("sshd-03", "MACs", only("macs", r"(hmac-sha2-(512|256)|umac-128)-etm@openssh\.com")),
    Control("sshd-04", "/etc/ssh", lambda look: look.is_mode("/etc/ssh", "root root 755")),
    Control(
        "sshd-05",
        "sshd_config",
        lambda look: (
            look.is_mode("/etc/ssh/sshd_config", "root root 644")
            and look.is_mode("/etc/ssh/sshd_config.d/00-hardening.conf", "root root 600")
        ),
        "What this project says is root's to read; sshd_config is Debian's own, which everybody knows",
    ),
    Control(
        "sshd-06", "PermitRootLogin", sshd("permitrootlogin", "no", "prohibit-password", "without-password")
    ),
    Control("sshd-07", "Port", sshd("port", "22")),
    Control("sshd-08", "AddressFamily", sshd("addressfamily", "any", "inet", "inet6")),
    Control("sshd-09", "ListenAddress", lambda look: look.sshd["listenaddress"]),
    Control("sshd-10", "Protocol 2", note=GONE),
    Control("sshd-11", "StrictModes", sshd("strictmodes", "yes")),
    Control("sshd-12", "SyslogFacility", sshd("syslogfacility", "AUTH")),
    Control("sshd-13", "LogLevel", sshd("loglevel", "VERBOSE")),
    Control("sshd-14", "HostKey", lambda look: look.sshd["hostkey"].startswith("/etc/ssh/ssh_host_")),
    Control("sshd-15", "UseLogin", lambda look: "uselogin" not in look.sshd),
    Control("sshd-16", "Privilege separation", note="OpenSSH knows no other way since 7.5"),
    Control("sshd-17", "PermitUserEnvironment", sshd("permituserenvironment", "no")),
    Control("sshd-18", "LoginGraceTime", sshd("logingracetime", "30")),
    Control(
        "sshd-19",
        "MaxAuthTries",
        sshd("maxauthtries", "4"),
        "4, not 2: only keys are tried, which nobody guesses, and people have several",
    ),
    Control("sshd-20", "MaxSessions", sshd("maxsessions", "10")),
    Control(
        "sshd-21", "MaxStartups", sshd("maxstartups", "10:30:60"), "60 at most, fewer than dev-sec's 100"
    ),
    Control("sshd-22", "PubkeyAuthentication", sshd("pubkeyauthentication", "yes")),
    Control("sshd-23", "IgnoreRhosts", sshd("ignorerhosts", "yes")),
    Control("sshd-24", "IgnoreUserKnownHosts", sshd("ignoreuserknownhosts", "yes")),
    Control("sshd-25", "HostbasedAuthentication", sshd("hostbasedauthentication", "no")),
    Control("sshd-27", "PasswordAuthentication", sshd("passwordauthentication", "no")),
    Control("sshd-28", "PermitEmptyPasswords", sshd("permitemptypasswords", "no")),
    Control("sshd-29", "ChallengeResponseAuthentication", sshd("kbdinteractiveauthentication", "no")),
    Control("sshd-30", "KerberosAuthentication", sshd("kerberosauthentication", "no")),
    Control(
        "sshd-31", "KerberosOrLocalPasswd", note="Of no effect without Kerberos, and passwords let nobody in"
    ),
    Control("sshd-32", "KerberosTicketCleanup", sshd("kerberosticketcleanup", "yes")),
    Control("sshd-33", "GSSAPIAuthentication", sshd("gssapiauthentication", "no")),
    Control("sshd-34", "GSSAPICleanupCredentials", sshd("gssapicleanupcredentials", "yes")),
    Control("sshd-35", "TCPKeepAlive", sshd("tcpkeepalive", "no")),
    Control(
        "sshd-36", "ClientAliveInterval", sshd("clientaliveinterval", "60"), "60 s: sooner than dev-sec's 300"
    ),
    Control("sshd-37", "ClientAliveCountMax", sshd("clientalivecountmax", "3")),
    Control("sshd-38", "PermitTunnel", sshd("permittunnel", "no")),
    Control("sshd-39", "AllowTcpForwarding", sshd("allowtcpforwarding", "no")),
    Control("sshd-40", "AllowAgentForwarding", sshd("allowagentforwarding", "no")),
    Control("sshd-41", "GatewayPorts", sshd("gatewayports", "no")),
    Control("sshd-42", "X11Forwarding", sshd("x11forwarding", "no")),
    Control("sshd-43", "X11UseLocalhost", sshd("x11uselocalhost", "yes")),
    Control("sshd-44", "PrintMotd", sshd("printmotd", "no")),
    Control(
        "sshd-45", "PrintLastLog", note="Who logs in reads when the account was last used, and may wonder"
    ),
    Control("sshd-46", "Banner", sshd("banner", "none")),
    Control(
        "sshd-47", "DebianBanner", lambda look: re.fullmatch(r"SSH-2\.0-OpenSSH_[0-9.p]+", look.run(GREETING))
    ),
    Control("sshd-48", "DH primes", nothing("awk '$5 < 2047 && $5 ~ /^[0-9]+$/' /etc/ssh/moduli")),
    Control(
        "nginx-01", "Workers are nobody of importance", lambda look: look.nginx_says("user") == ["www-data"]
    ),
    Control(
        "nginx-02",
        "nginx.conf",
        lambda look: look.run("find /etc/nginx ! -user root -o ! -type l -perm /022") == "",
        "Others may read it: it holds no secret. root alone writes it",
    ),
    Control(
        "nginx-03",
        "No default site",
        nothing("ls -d /etc/nginx/conf.d/default.conf /etc/nginx/sites-enabled/default"),
    ),
    Control(
        "nginx-04", "One instance", lambda look: look.run("pgrep --count --full '^nginx: master'") == "1"
    ),
    Control("nginx-05", "server_tokens", lambda look: set(look.nginx_says("server_tokens")) == {"off"}),
    Control(
        "nginx-06",
        "Limits on what clients send",
        lambda look: look.nginx_says("client_max_body_size"),
        "By each app's need (nginx_client_max_body_size): dev-sec's 1k is the size of a cookie",
    ),
    Control(
        "nginx-07",
        "Time limits and connections of a client",
        lambda look: all(
            seconds(value) <= limit
            for name, limit in (
                ("client_header_timeout", 15),
                ("client_body_timeout", 30),
                ("send_timeout", 30),
            )
            for value in look.nginx_says(name) or ["999999s"]
        ),
        "Slow clients are cut off after 15 and 30 s; of fast ones the requests a second are limited",
    ),
    Control(
        "nginx-08",
        "Clickjacking",
        note="Said by the app, which knows who may frame it; the sample app says frame-ancestors",
    ),
    Control(
        "nginx-09", "XSS filter", note="Browsers took the filter out: it opened more holes than it closed"
    ),
    Control("nginx-10", "Content type sniffing", note="Said by the app's own answers, once a header"),
]


def table() -> str:
    """Return the document."""
    rows = (
        f"| {control.id} | {control.title} | {control.state} | {control.note.rstrip('.')} |"
        for control in CONTROLS
    )
    return HEAD + "\n".join(rows) + "\n" + FOOT


def main(arguments: list[str]) -> int:
    """Write the document, or say whether it is out of date."""
    if "--write" in arguments:
        DOCUMENT.write_text(table())
    return 0 if DOCUMENT.exists() and DOCUMENT.read_text() == table() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
