"""What the judges of sound can hear: artifacts of known place, and degraded speech."""
