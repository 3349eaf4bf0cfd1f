"""Share what several tests need: datasets, models, videos, a Hub on loopback."""
