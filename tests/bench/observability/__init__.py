"""What flask_ops costs a request."""
