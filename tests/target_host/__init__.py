"""Local target hosts: systemd containers that stand in for a provider's Debian machines.

Ansible reaches them over SSH on a published loopback port, as it reaches any host. What an inventory says
about them, each variable read literally (no templates):

`target_host_ports`
    list of quoted "PORT_ON_THE_CONTROLLER:PORT_ON_THE_HOST", published on 127.0.0.1. A host that has this
    variable, even as an empty list, is a target host; others in the inventory are left alone.
`ansible_port`
    the loopback port its sshd is published on.
`base_address`
    its address on the network of the inventory's hosts, from a /24 that nothing else here uses; otherwise
    podman chooses.
`target_host_debian`
    13 (the default) or 12.
`target_host_image`
    start from this image, made by `commit`, instead of the plain Debian.
`target_host_url`
    what the summary shows and asks for `/readyz`.
`target_host_state_dir`
    where keys, known_hosts and the summary's CA live; read by people and by the inventory itself, while
    this program takes `.local/<inventory name>`, the same place.

Standard library only: it also prepares the virtual environment that everything else runs in.
"""
