"""What tests/target and tests/scenario stand on: hosts of their own, plays run against them, evidence.

`sites` starts hosts and says how to reach them, `fleets` several that serve one app, `converged` keeps
provisioned ones as images, `plays` runs playbooks, `https` is a client that trusts one authority,
`fingerprint` tells whether a host changed, `evidence` saves what a red test needs, `durations` collects what
is shown at the end of a session.
"""
