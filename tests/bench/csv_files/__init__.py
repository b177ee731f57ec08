"""What the sample app needs to import and export a CSV file."""
