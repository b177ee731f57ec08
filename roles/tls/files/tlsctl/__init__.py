"""tlsctl: see to the certificates nginx shows on this host.

`issue` and `deploy` bring a certificate of an ACME server into service, `settle` says what a run of certbot
came to, `fetch` brings it to the app's other hosts, `observe` tells Prometheus, `check` tells a person. Only
the standard library, openssl and certbot.
"""
