"""Share what several tests need: data sets, models, videos, a Hub on loopback."""
