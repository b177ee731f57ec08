"""What a host pays for watching itself."""
