"""Which worker class and how many workers serve an app best, on the machine it runs on."""
