"""What the edge costs a request: TLS, headers, limits, the access line."""
